//! Load for one mix node, from outside: members of its network that send it packets and are the hops behind it.
//!
//! The members are in this process, the node and the authority are programs of their own. Packets are valid for the node
//! and new, each of them, and sent when it is their time, whether or not the node keeps up (open loop). Of some the maker
//! works out what they owe and what they will look like behind the node, so that the next hop knows them by sight.

mod ahead;
mod maker;
mod members;
mod network;
mod tags;

pub use self::ahead::{Ahead, Turn, stay_off};
pub(crate) use self::maker::look;
pub use self::maker::{Made, Maker, Sample};
pub use self::members::{Arrivals, Members};
pub use self::network::{Network, Settings};
pub use self::tags::Tags;
