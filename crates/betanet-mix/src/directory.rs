//! The directory: what its authority knows and signs next, and the consensuses that everybody holds.

mod admission;
mod consensuses;
mod duties;
mod newest;
mod plan;
mod publishers;
mod terms;
mod workers;

pub use admission::{AdmissionError, Admissions, Admitted, Door, Shown};
pub use consensuses::{ConsensusError, Consensuses};
pub use duties::OwedProof;
pub use newest::Newest;
pub use plan::{Ledger, Saved};
pub use publishers::Publishers;
pub use terms::{NetworkConstants, Terms};
pub use workers::{Bringer, Listed, Workers};
