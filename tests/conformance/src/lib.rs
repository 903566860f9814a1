//! Conformance tests of RLPx and the p2p base protocol.

pub mod model;
