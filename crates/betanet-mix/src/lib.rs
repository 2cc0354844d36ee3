#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod allowance;
pub mod coalesce;
pub mod conduct;
pub mod courier;
pub mod delay;
pub mod directory;
pub mod epoch;
pub mod evidence;
pub mod fair;
#[cfg(test)]
mod fixtures;
pub mod mailbox;
pub mod message;
pub mod own_edges;
pub mod pace;
pub mod path;
pub mod places;
pub mod pool;
mod random;
pub mod replay;
pub mod text;
pub mod view;
pub mod vrf;
