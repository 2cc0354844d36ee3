#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod courier;
pub mod delay;
pub mod epoch;
pub mod message;
pub mod path;
pub mod pipeline;
mod random;
pub mod replay;
pub mod view;
