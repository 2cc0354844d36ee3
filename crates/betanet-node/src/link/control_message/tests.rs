#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::*;
use crate::link::frame::{FRAME_LEN, Frame};
use crate::link::io::{LinkTimeouts, LinkWriter, spawn_writer};

const LIMITS: LinkTimeouts = LinkTimeouts {
    handshake: Duration::from_secs(1),
    keepalive: Duration::from_mins(1),
    silence: Duration::from_mins(5),
};

fn document(byte: u8, len: usize) -> Arc<Encoded> {
    Arc::new(Encoded::from(vec![byte; len]))
}

fn all(message: &ControlMessage, step: usize) -> Result<Vec<u8>, NotInStock> {
    let mut out = Vec::new();
    for start in (0..message.len()).step_by(step) {
        message.copy(start, step, &mut out)?;
    }
    Ok(out)
}

#[test]
fn a_message_is_its_parts_in_a_row_however_it_is_cut() {
    let stock = Stock::new(100);
    let (one, two) = (document(b'1', 7), document(b'2', 5));
    let message = ControlMessage::from(b"[".to_vec()).documents(&[one, two], &stock).text("]");
    for step in 1..20 {
        assert_eq!(Ok(b"[1111111,22222]".to_vec()), all(&message, step), "{step}");
    }
}

/// INV-LINK-60
#[test]
fn what_peers_that_do_not_read_are_sent_is_held_once_and_goes_when_later_documents_need_the_room() {
    let stock = Stock::new(2500);
    let first = document(b'x', 1000);
    let messages: Vec<_> =
        (0..512).map(|_| ControlMessage::default().documents(&[Arc::clone(&first)], &stock).text("end")).collect();
    assert_eq!(1000, stock.bytes());
    drop(first);
    assert!(messages.iter().all(|message| all(message, 300).is_ok()));
    // Whoever makes documents faster than others read them takes no more memory.
    for byte in 0..100 {
        let _ = ControlMessage::default().documents(&[document(byte, 1000)], &stock);
        assert!(stock.bytes() <= 2500);
    }
    assert!(messages.iter().all(|message| all(message, 300) == Err(NotInStock)));
    // One that is larger than the stock is there until the next.
    let large = document(b'y', 9000);
    let message = ControlMessage::default().documents(&[large], &stock);
    assert_eq!((9000, true), (stock.bytes(), all(&message, 1000).is_ok()));
}

/// INV-LINK-60
#[tokio::test]
async fn a_link_ends_in_the_middle_of_a_document_that_is_held_no_more() {
    let stock = Stock::new(1);
    let (near, mut far) = tokio::io::duplex(4 * FRAME_LEN);
    let sender = spawn_writer(LinkWriter::new(near, LIMITS), 4);
    let message = ControlMessage::default().documents(&[document(b'x', 1000 * FRAME_LEN)], &stock);
    sender.send(Frame::control(message)).await.unwrap();
    far.read_exact(&mut [0; FRAME_LEN]).await.unwrap();
    let _ = ControlMessage::default().documents(&[document(b'y', 10)], &stock);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 100 * FRAME_LEN, "{} bytes came", rest.len());
    sender.closed().await;
}
