#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::DuplexStream;

use super::*;

/// Takes far more than one write to the socket.
fn long_message() -> String {
    "x".repeat(3 * WRITE_BATCH * FRAME_LEN)
}

fn limits() -> LinkTimeouts {
    LinkTimeouts::default()
}

fn reader(stream: DuplexStream) -> LinkReader {
    LinkReader::new(stream, MESSAGE_LIMIT, limits())
}

/// INV-LINK-16
#[tokio::test]
async fn of_the_answers_to_a_peer_that_does_not_read_one_is_held() {
    let (near, far) = tokio::io::duplex(FRAME_LEN);
    let sender = spawn_writer(LinkWriter::new(near, limits()), 512);
    let message = long_message();
    sender.send_message(&message).await.unwrap();
    let mut second = std::pin::pin!(sender.send_message(&message));
    // The first cannot be written while nobody reads, however often the writer gets to run.
    for _ in 0..100 {
        let polled = std::future::poll_fn(|context| Poll::Ready(second.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "a second message was queued");
        tokio::task::yield_now().await;
    }
    let mut reader = reader(far);
    let (sent, read) = tokio::join!(second, reader.next());
    sent.unwrap();
    assert!(matches!(read, Ok(Received::Message(got)) if got.len() == message.len() + 2));
    assert!(matches!(reader.next().await, Ok(Received::Message(got)) if got.len() == message.len() + 2));
}

/// Counts the bytes of the largest write.
struct Widest {
    stream: DuplexStream,
    widest: Arc<AtomicUsize>,
}

impl AsyncWrite for Widest {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.widest.fetch_max(bytes.len(), Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// INV-LINK-16
#[tokio::test]
async fn a_long_message_is_written_in_parts_each_with_its_own_time() {
    let (near, far) = tokio::io::duplex(FRAME_LEN);
    let widest = Arc::new(AtomicUsize::new(0));
    let sender = spawn_writer(LinkWriter::new(Widest { stream: near, widest: Arc::clone(&widest) }, limits()), 8);
    let message = long_message();
    let mut reader = reader(far);
    let (sent, read) = tokio::join!(sender.send_message(&message), reader.next());
    sent.unwrap();
    assert!(matches!(read, Ok(Received::Message(_))));
    assert_eq!(WRITE_BATCH * FRAME_LEN, widest.load(Ordering::Relaxed));
}
