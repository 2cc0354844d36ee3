//! Renders the page of a process.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{CONTENT_TYPE, Grain, MetricKind, Page, ProcessUsage};
use crate::http::Response;
use crate::sync::lock;

/// How long coarse figures stand still.
const PERIOD: Duration = Duration::from_mins(1);

/// What a process tells of itself.
pub trait Figures {
    /// How fine it is.
    fn grain(&self) -> Grain;

    /// What has nothing to do with traffic, and is always as it is now.
    fn write_state(&self, page: &mut Page);

    /// What packets and clients move.
    fn write_traffic(&self, page: &mut Page);
}

/// Renders figures; those of traffic are held for a minute unless they are exact.
#[derive(Debug)]
pub struct Exporter<F> {
    figures: Arc<F>,
    started_ms: u64,
    held: Mutex<Option<(Instant, String)>>,
}

impl<F: Figures> Exporter<F> {
    /// An exporter for `figures` of this process.
    #[must_use]
    pub fn new(figures: &Arc<F>) -> Self {
        Self { figures: Arc::clone(figures), started_ms: ProcessUsage::started_ms(), held: Mutex::default() }
    }

    /// The page at the time `now`.
    #[must_use]
    pub fn render(&self, now: Instant) -> String {
        state(&*self.figures) + &self.traffic(now)
    }

    /// The page as an answer.
    #[must_use]
    pub fn answer(&self, now: Instant) -> Response {
        Response { status: 200, content_type: CONTENT_TYPE, body: self.render(now) }
    }

    fn traffic(&self, now: Instant) -> String {
        let mut held = lock(&self.held);
        if let Some((taken, text)) = held.as_ref()
            && self.figures.grain() == Grain::Coarse
            && now.saturating_duration_since(*taken) < PERIOD
        {
            return text.clone();
        }
        let text = traffic(&*self.figures, &ProcessUsage::now(self.started_ms));
        *held = Some((now, text.clone()));
        text
    }
}

/// The page of `figures` with nothing of this process, for a list of what there is.
#[must_use]
pub fn blank(figures: &impl Figures) -> String {
    state(figures) + &traffic(figures, &ProcessUsage::default())
}

fn state(figures: &impl Figures) -> String {
    let mut page = Page::default();
    figures.write_state(&mut page);
    let version = [(env!("CARGO_PKG_VERSION"), 1)];
    page.each(MetricKind::Gauge, "betanet_build_info", "1, with the version of the program", "version", version);
    page.into_text()
}

fn traffic(figures: &impl Figures, usage: &ProcessUsage) -> String {
    let mut page = Page::default();
    figures.write_traffic(&mut page);
    usage.write(&mut page, figures.grain());
    page.into_text()
}
