//! capmux
pub mod node;
pub mod p2p;
mod rlp_list;
pub mod rlpx;
pub use node::{Enode, NodeId, NodeKey, PublicKey};
