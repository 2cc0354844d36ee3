//! A very small HTTP/1.1 responder for `/health` and `/metrics`, and the client that asks it.
//!
//! It answers GET for a few fixed paths and closes the connection. Nothing a browser or a
//! scraper sends can make it hold more than a few KiB or a connection for more than a few seconds,
//! and nobody keeps others out by holding connections: the oldest gives way to the newest.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bind::AcceptTrouble;
use crate::newcomers::Newcomers;

/// Bytes of a request's head.
const HEAD_LIMIT: usize = 8 * 1024;

/// Bytes of a response that [`get`] takes.
const RESPONSE_LIMIT: u64 = 4 * 1024 * 1024;

/// For the request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);

/// For a request and its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// MIME type.
    pub content_type: &'static str,
    /// Content.
    pub body: String,
}

impl Response {
    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: format!("{value}\n") }
    }
}

/// Serves GET requests until it is dropped, `most` at once; `answer` maps a path to its response,
/// `crowded` hears of each connection that had to give way.
pub async fn serve<A>(listener: TcpListener, most: usize, answer: A, crowded: impl Fn() + Send + Sync + 'static)
where
    A: Fn(&str) -> Option<Response> + Send + Sync + 'static,
{
    let shared = Arc::new((answer, crowded));
    let places = Newcomers::new(most, most);
    let mut connections = JoinSet::new();
    let mut trouble = AcceptTrouble::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                trouble.wait_out(&err).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let mut place = places.come(None);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let (answer, crowded) = shared.as_ref();
            tokio::select! {
                _ = tokio::time::timeout(PATIENCE, one(stream, answer)) => {}
                () = place.gives_way() => crowded(),
            }
        });
        places.settled().await;
    }
}

async fn one<A>(mut stream: TcpStream, answer: &A) -> std::io::Result<()>
where
    A: Fn(&str) -> Option<Response>,
{
    let head = tokio::time::timeout(HEAD_PATIENCE, read_head(&mut stream)).await??;
    let request = head.as_deref().and_then(|head| std::str::from_utf8(head).ok());
    let is_local = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let plain =
        |status, body: &str| Response { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n") };
    let response = match request.and_then(request_line) {
        None => plain(400, "bad request"),
        Some(_) if is_local && !request.and_then(host).is_none_or(is_of_this_machine) => {
            plain(403, "ask by an address of this machine, or as localhost")
        }
        Some(("GET" | "HEAD", path)) => {
            answer(path).unwrap_or_else(|| plain(404, "not found: try /health or /metrics"))
        }
        Some(_) => plain(405, "only GET"),
    };
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Service Unavailable",
    };
    let head_only = request.is_some_and(|request| request.starts_with("HEAD "));
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        response.status,
        response.content_type,
        response.body.len()
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(response.body.as_bytes());
    }
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// Everything before the first empty line; nothing if there is none. Lines may end without `\r`.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let ends =
            [head.windows(4).position(|four| four == b"\r\n\r\n"), head.windows(2).position(|two| two == b"\n\n")];
        if let Some(end) = ends.into_iter().flatten().min() {
            head.truncate(end);
            return Ok(Some(head));
        }
        if head.len() >= HEAD_LIMIT || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}

/// Method and path of a request head, without the query.
fn request_line(head: &str) -> Option<(&str, &str)> {
    let mut words = head.lines().next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    Some((method, target.split('?').next().unwrap_or(target)))
}

/// The name under which a request head asks, if it says so: every browser does.
fn host(head: &str) -> Option<&str> {
    head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    })
}

/// Whether no page of a stranger can have this name: a name of his may lead a browser to this machine's loopback.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
}

/// Gets `path` from `address`; the status and the body.
///
/// # Errors
/// No answer within five seconds, or no HTTP.
pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    within(async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.take(RESPONSE_LIMIT).read_to_string(&mut response).await?;
        let (head, body) = response.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    })
    .await
}

async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use super::*;

    const PLACES: usize = 7;

    async fn start(crowded: impl Fn() + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |path: &str| (path == "/health").then(|| Response::json(200, &serde_json::json!({"ok": true})));
        tokio::spawn(serve(listener, PLACES, answer, crowded));
        address
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out() {
        let (sender, mut crowded) = tokio::sync::mpsc::unbounded_channel();
        let address = start(move || sender.send(()).unwrap()).await;
        let mut silent = Vec::new();
        for _ in 0..=PLACES {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // The first gives way to the last, and the second to the one that asks.
        crowded.recv().await.unwrap();
        assert_eq!(0, silent[0].read(&mut [0]).await.unwrap_or(0));
        assert_eq!(200, get(address, "/health").await.unwrap().0);
    }

    #[tokio::test]
    async fn known_paths_answer_and_others_are_refused() {
        let address = start(|| ()).await;
        assert_eq!((200, "{\"ok\":true}\n".to_owned()), get(address, "/health?x=1").await.unwrap());
        assert_eq!(404, get(address, "/").await.unwrap().0);
    }

    /// INV-LINK-96
    #[tokio::test]
    async fn every_head_gets_its_answer_and_the_server_lives_on() {
        let address = start(|| ()).await;
        for (garbage, status) in [
            (b"GET /health HTTP/1.1\nhost: localhost\n\n".as_slice(), "200"),
            (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n", "200"),
            (b"GET /health HTTP/1.1\r\nHost: [::1]\r\n\r\n", "200"),
            (b"GET /health HTTP/1.0\r\n\r\n", "200"),
            (b"GET /health HTTP/1.1\r\nHost: stranger.example:9001\r\n\r\n", "403"),
            (b"GET /health HTTP/1.1\r\nx: y\r\nHOST:localhost.stranger.example\r\n\r\n", "403"),
            (b"\xff\xfe\r\n\r\n", "400"),
            (b"GET /health\r\n\r\n", "400"),
            (b"POST /health HTTP/1.1\r\n\r\n", "405"),
            (&[b'a'; 9000], "400"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            let mut response = Vec::new();
            // A reset after the answer is fine: the server does not read what it refuses.
            let _ = stream.read_to_end(&mut response).await;
            let response = String::from_utf8_lossy(&response);
            assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        }
        assert_eq!(200, get(address, "/health").await.unwrap().0);
    }
}
