//! Figures for Prometheus, of a node and of an authority: how they are counted, written, and how coarsely.

mod counts;
mod exporter;
mod page;
mod process;

pub use self::counts::{Count, Level, Times};
pub use self::exporter::{Exporter, Figures, blank};
pub use self::page::{CONTENT_TYPE, Grain, MetricKind, Page};
pub use self::process::ProcessUsage;

/// Upper bounds of buckets, in seconds.
pub type Bounds = [f64; 12];
