#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod frames;
mod keys;
mod primitives;
mod seal;
mod session;
mod window;

pub use error::NoiseError;
pub use frames::{FRAME_OVERHEAD, MAX_PLAINTEXT_LEN};
pub use keys::{NoisePublic, NoiseSecret};
pub use seal::{MAX_SEALED_PLAINTEXT_LEN, SEAL_OVERHEAD, open, seal};
pub use session::Session;
