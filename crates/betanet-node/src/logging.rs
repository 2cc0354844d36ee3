//! Log lines: the schema of `docs/spec/logs.md`, which the Python processes write as well.
//!
//! At info and above no line carries a peer, circuit, session or mailbox: fields that could are
//! dropped here, whoever logs them, and what looks like an address or an id is taken out of texts.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Names of fields that are in no line at info or above.
pub const LINKING_FIELDS: [&str; 22] = [
    "address",
    "attempt",
    "body",
    "circuit",
    "circuit_id",
    "client",
    "handle",
    "key",
    "mailbox",
    "message_id",
    "module",
    "path",
    "peer",
    "recipient",
    "requester",
    "sender",
    "session",
    "surb_id",
    "task",
    "task_id",
    "token",
    "worker",
];

/// Characters of one value.
const VALUE_LENGTH: usize = 1000;

/// Characters of the name of a process.
const NAME_LENGTH: usize = 64;

/// Hexadecimal digits from which on a word is taken for an id or a key.
const ID_DIGITS: usize = 32;

/// How an address of the network begins, and how long a word is then taken for one.
const ADDRESS: (&str, usize) = ("fog1", 20);

/// Formats events for a log.
#[derive(Debug)]
pub struct Lines {
    json: bool,
    service: &'static str,
    node: String,
}

impl Lines {
    /// Lines of one process: of which `service`, and its name among the others of that.
    ///
    /// `json` writes objects, one a line; otherwise text for people.
    #[must_use]
    pub fn new(json: bool, service: &'static str, node: &str) -> Self {
        Self { json, service, node: one_line(node, NAME_LENGTH) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let normal = event.normalized_metadata();
        let metadata = normal.as_ref().unwrap_or_else(|| event.metadata());
        let mut fields = Fields { linking: *metadata.level() > Level::INFO, ..Fields::default() };
        event.record(&mut fields);
        if !self.json {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {:>5} {}", metadata.level(), fields.message)?;
            for (name, value) in &fields.others {
                write!(writer, " {name}={value}")?;
            }
            return writeln!(writer);
        }
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let first = [
            ("timestamp", time.as_str()),
            ("level", metadata.level().as_str()),
            ("target", metadata.target()),
            ("message", &fields.message),
            ("service", self.service),
            ("node", &self.node),
        ];
        writer.write_char('{')?;
        for (place, (name, text)) in first.into_iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(writer, "{comma}\"{name}\":{}", Value::from(text))?;
        }
        for (name, value) in &fields.others {
            write!(writer, ",\"{name}\":{value}")?;
        }
        writeln!(writer, "}}")
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    /// Whether it may carry what links people to traffic.
    linking: bool,
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        let name = field.name();
        // What the crate `log` adds about where a line is from.
        let of_log = name.starts_with("log.");
        if !of_log && (self.linking || !LINKING_FIELDS.contains(&name)) {
            self.others.push((name, value));
        }
    }

    fn keep_text(&mut self, field: &Field, text: &str) {
        let line = one_line(text, VALUE_LENGTH);
        let line = if self.linking { line } else { without_ids(&line) };
        if field.name() == "message" { self.message = line } else { self.keep(field, Value::from(line)) }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.keep_text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep_text(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, Value::from(value));
    }
}

/// A text as one line of at most `limit` characters that do nothing to a terminal.
fn one_line(text: &str, limit: usize) -> String {
    let seen: String = text.chars().take(limit * 4).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = String::new();
    for word in seen.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() <= limit && seen.len() == text.len() {
        return line;
    }
    let mut cut: String = line.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A text in which no word names a machine elsewhere, a key or an id.
fn without_ids(text: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '[' | ']' | '%');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c| !part_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        clean.push_str(&told(word));
        let between = after.find(part_of_word).unwrap_or(after.len());
        let (between, after) = after.split_at(between);
        clean.push_str(between);
        rest = after;
    }
    clean
}

/// What a log tells of one word.
fn told(word: &str) -> Cow<'_, str> {
    let bare = word.trim_end_matches([':', '.']);
    let host = bare.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| {
        let inner = bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare);
        inner.parse::<IpAddr>()
    });
    let hidden = match host {
        Ok(ip) if !ip.is_loopback() && !ip.is_unspecified() => "[address]",
        _ if bare.starts_with(ADDRESS.0) && bare.len() >= ADDRESS.1 => "[address]",
        _ if bare.len() >= ID_DIGITS && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) => "[id]",
        _ => return Cow::Borrowed(word),
    };
    let tail = word.get(bare.len()..).unwrap_or_default();
    Cow::Owned(format!("{hidden}{tail}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing_subscriber::EnvFilter;

    use super::*;
    use crate::sync::lock;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, work: impl FnOnce()) -> String {
        let written = Written::default();
        let to = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("debug"))
            .with_writer(move || to.clone())
            .with_ansi(false)
            .event_format(Lines::new(json, "betanet-mixnodes", "middle-3"))
            .finish();
        with_default(subscriber, work);
        let bytes = lock(&written.0).clone();
        String::from_utf8(bytes).unwrap()
    }

    fn line(work: impl FnOnce()) -> serde_json::Map<String, Value> {
        serde_json::from_str(&logged(true, work)).unwrap()
    }

    /// INV-LOG-01
    #[test]
    fn a_line_has_the_common_shape_and_order() {
        let text = logged(true, || tracing::warn!(count = 3, share = 0.5, ok = true, "task.ended"));
        let names = ["timestamp", "level", "target", "message", "service", "node", "count", "share", "ok"];
        let places: Vec<_> = names.iter().map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["target"], "betanet_node::logging::tests");
        assert_eq!(line["message"], "task.ended");
        assert_eq!((&line["service"], &line["node"]), (&Value::from("betanet-mixnodes"), &Value::from("middle-3")));
        assert_eq!((&line["count"], &line["share"], &line["ok"]), (&3.into(), &0.5.into(), &true.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    /// INV-LOG-02
    #[test]
    fn what_links_people_to_traffic_is_in_debug_lines_alone() {
        let told = line(|| tracing::info!(mailbox = 7, peer = "x", safe = 1, "a.happened"));
        assert!(LINKING_FIELDS.iter().all(|name| !told.contains_key(*name)), "{told:?}");
        assert_eq!(told["safe"], 1);
        let told = line(|| tracing::debug!(mailbox = 7, peer = "192.0.2.7:1", "a.happened"));
        assert_eq!((&told["mailbox"], &told["peer"]), (&7.into(), &"192.0.2.7:1".into()));
        let text = logged(false, || tracing::error!(session = "secret", reason = "r", "a.failed"));
        assert!(text.ends_with(" ERROR a.failed reason=\"r\"\n"), "{text}");
    }

    /// INV-LOG-03
    #[test]
    fn texts_tell_no_machine_elsewhere_and_no_id() {
        let cases: Vec<[String; 2]> = serde_json::from_str(
            &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/log_words.json")).unwrap(),
        )
        .unwrap();
        assert!(cases.len() > 15);
        for [said, told] in cases {
            let line = line(|| tracing::warn!(reason = %said, "a.failed"));
            assert_eq!(line["reason"], told, "{said}");
            let line = self::line(|| tracing::debug!(reason = %said, "a.failed"));
            assert_eq!(line["reason"], said);
        }
    }

    /// INV-LOG-04
    #[test]
    fn a_value_from_outside_cannot_forge_or_flood_a_log() {
        let words = format!("\u{1b}]0;owned\u{7}\n{{\"level\":\"ERROR\"}}\u{9b}{}", "N".repeat(100_000));
        for json in [true, false] {
            let text = logged(json, || tracing::warn!(reason = %words, error = ?words, "a.happened"));
            assert_eq!(1, text.lines().count());
            assert!(text.len() < 10_000, "{}", text.len());
            assert!(!text.trim_end().chars().any(char::is_control), "{text}");
        }
    }

    #[test]
    fn lines_of_libraries_have_the_same_shape() {
        // What the bridge from the crate `log` makes of a line.
        let told = line(|| tracing::info!(log.target = "rustls", log.line = 3, "it broke: {}", "badly"));
        assert_eq!(told["message"], "it broke: badly");
        assert!(!told.keys().any(|name| name.starts_with("log.")), "{told:?}");
    }
}
