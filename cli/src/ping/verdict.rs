//! What it means that a ping stopped early: the exit code, and a line for the user.

use std::io::ErrorKind;

use capmux::node::Host;
use capmux::p2p::{HelloError, SessionError};
use capmux::rlpx::HandshakeError;
use capmux::{DisconnectReason, Enode, PeerError, Stage};

use super::Args;
use super::probe::Stopped;
use super::report::Report;
use crate::exit::{Exit, Failure, chain};

/// An error, unless the node has still been pinged.
pub(super) fn judge(args: &Args, report: &Report, stopped: &Stopped) -> Result<(), Failure> {
    let node = report.remote_addr().map_or_else(|| place(&args.enode), |address| address.to_string());
    let (exit, what) = match stopped.stage {
        Stage::Dial => (Exit::Unreachable, unreachable(&stopped.error)),
        Stage::Encryption => (Exit::Handshake, not_encrypted(&stopped.error)),
        Stage::Hello => no_hello(&stopped.error),
        _ => match cut_short(args, report, &stopped.error) {
            Some(ending) => ending,
            None => return Ok(()),
        },
    };
    Err(Failure::new(exit, format!("cannot ping {node}: {what}")))
}

/// Where an enode URL says that the node is.
fn place(enode: &Enode) -> String {
    match &enode.host {
        Host::Ip(ip) => std::net::SocketAddr::from((*ip, enode.tcp_port)).to_string(),
        Host::Domain(name) => format!("{name}:{}", enode.tcp_port),
    }
}

fn unreachable(error: &PeerError) -> String {
    match error {
        PeerError::Resolve { source, .. } => {
            format!("its name cannot be resolved ({source}); check the name, or give an IP address")
        }
        PeerError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
            "the connection was refused; check that the node runs and that this is its TCP port".to_owned()
        }
        PeerError::Connect { address, source } => {
            format!("no connection to {address} ({source}); check the address and the network")
        }
        PeerError::Timeout { limit, .. } => {
            format!("no TCP connection within {limit:?}; check the address and firewalls, or give a longer --timeout")
        }
        error => chain(error),
    }
}

fn not_encrypted(error: &PeerError) -> String {
    match error {
        PeerError::Timeout { limit, .. } => format!(
            "no answer to the encryption handshake within {limit:?}; \
             check that a devp2p node listens there, or give a longer --timeout"
        ),
        PeerError::Closed { .. } | PeerError::Io(_) => "it closed the connection during the encryption handshake; \
             check that the public key in the enode is its own, or wait: go-ethereum turns away an address that comes \
             again within 30 s"
            .to_owned(),
        PeerError::Handshake(HandshakeError::ConnectedToSelf) => {
            "the enode is that of the key which the ping uses; use another --key".to_owned()
        }
        error => {
            format!("{}; check that a devp2p node listens there and that the key in the enode is its own", chain(error))
        }
    }
}

fn no_hello(error: &PeerError) -> (Exit, String) {
    match error {
        PeerError::Session(SessionError::Disconnected(reason)) => {
            let what = format!("it disconnected before its Hello: {}", said(*reason));
            (Exit::Disconnected, what)
        }
        PeerError::Timeout { limit, .. } => {
            (Exit::Handshake, format!("no Hello within {limit:?}; try again, or give a longer --timeout"))
        }
        PeerError::Closed { .. } | PeerError::Io(_) => {
            (Exit::Handshake, "it closed the connection before its Hello; its log may say why".to_owned())
        }
        PeerError::Session(SessionError::Hello(HelloError::ConnectedToSelf)) => {
            (Exit::Handshake, "the enode is that of the key which the ping uses; use another --key".to_owned())
        }
        error => (Exit::Handshake, format!("{}; the node breaks the p2p protocol", chain(error))),
    }
}

/// What happened after the Hellos; `None` when the node has been pinged all the same.
fn cut_short(args: &Args, report: &Report, error: &PeerError) -> Option<(Exit, String)> {
    let (exit, what) = match error {
        PeerError::Session(SessionError::Disconnected(Some(DisconnectReason::UselessPeer))) => return None,
        PeerError::Session(SessionError::Disconnected(reason)) => {
            (Exit::Disconnected, format!("it disconnected after its Hello: {}", said(*reason)))
        }
        PeerError::Closed { .. } | PeerError::Io(_) => {
            (Exit::Disconnected, "it closed the connection after its Hello; its log may say why".to_owned())
        }
        PeerError::Timeout { limit, .. } => {
            (Exit::Partly, format!("the time was up after {limit:?}; give a longer --timeout or a smaller --count"))
        }
        error => (Exit::Failed, format!("{}; the node breaks the p2p protocol", chain(error))),
    };
    match report.round_trips() {
        0 => Some((exit, what)),
        done => Some((Exit::Partly, format!("{done} of {} round trips measured, then {what}", args.count))),
    }
}

/// What the node gave as its reason, and what to do about it.
fn said(reason: Option<DisconnectReason>) -> String {
    let hint = match reason {
        Some(DisconnectReason::TooManyPeers) => "try again when it has a place for another peer",
        Some(DisconnectReason::AlreadyConnected) => "another connection uses the same --key",
        Some(DisconnectReason::ClientQuitting) => "it shuts down: try again when it is back",
        Some(DisconnectReason::UselessPeer) => "it wants none that shares no subprotocol with it",
        _ => "its log may say more",
    };
    let reason = reason.map_or_else(|| "no reason given".to_owned(), |reason| reason.to_string());
    format!("{reason}; {hint}")
}
