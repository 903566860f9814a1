//! `capmux key`: makes node keys and shows their public half.

use std::io::ErrorKind;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use capmux::node::{Host, KeyFileError};
use capmux::{Enode, NodeKey};
use clap::Subcommand;

use crate::exit::{Exit, Failure};
use crate::output;

/// Makes node keys and shows their public half
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a new key: in a new file, or on stdout
    ///
    /// The file gets mode 0600 on Unix, and one that exists is never overwritten. The node id and the public key are
    /// printed. Without FILE the secret key itself is printed, as 64 hexadecimal digits.
    Generate {
        /// Where to write the key
        file: Option<PathBuf>,
    },
    /// Shows the node id and the public key, never the secret
    Show {
        /// The key file
        file: PathBuf,
    },
    /// Prints the enode URL of the node that uses a key
    Enode {
        /// The key file
        file: PathBuf,
        /// Where others reach the node: an IP address (IPv6 in brackets) or a domain name, and the TCP port
        #[arg(long, value_name = "HOST:PORT", value_parser = address)]
        addr: Address,
    },
}

/// Where a node is reached.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    host: Host,
    port: u16,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Generate { file: Some(file) } => show(&generate(&file)?),
        Command::Generate { file: None } => print_secret(),
        Command::Show { file } => show(&load(&file)?),
        Command::Enode { file, addr } => {
            let public_key = load(&file)?.public_key();
            let Address { host, port } = addr;
            output::print_line(Enode { public_key, host, tcp_port: port, udp_port: port }).map(drop)
        }
    }
}

/// Reads a key file.
pub(crate) fn load(file: &Path) -> Result<NodeKey, Failure> {
    NodeKey::load(file).map_err(failure)
}

/// Reads a key file, or makes it when there is none. Says so on stderr.
pub(crate) fn load_or_generate(file: &Path) -> Result<NodeKey, Failure> {
    match NodeKey::load(file) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = generate(file)?;
            output::note(format_args!("made the key file {}", file.display()));
            Ok(key)
        }
        loaded => loaded.map_err(failure),
    }
}

fn generate(file: &Path) -> Result<NodeKey, Failure> {
    let key = NodeKey::random();
    key.save_new(file).map_err(failure)?;
    Ok(key)
}

fn show(key: &NodeKey) -> Result<(), Failure> {
    output::print_line(format_args!("node id     {}\npublic key  {}", key.node_id(), key.public_key())).map(drop)
}

fn print_secret() -> Result<(), Failure> {
    let mut line = NodeKey::random().to_hex();
    line.push('\n');
    output::print(line.as_bytes()).map(drop)
}

fn failure(error: KeyFileError) -> Failure {
    let hint = match &error {
        KeyFileError::Read { source, .. } if source.kind() == ErrorKind::NotFound => {
            "; `capmux key generate FILE` makes one"
        }
        KeyFileError::Write { source, .. } if source.kind() == ErrorKind::NotFound => "; make its folder first",
        KeyFileError::Exists { .. } => "; choose another name",
        KeyFileError::Corrupt { .. } => "; restore it, or move it away and make a new one",
        _ => "",
    };
    Failure::new(Exit::Failed, format!("{error}{hint}"))
}

/// Reads HOST:PORT.
fn address(text: &str) -> Result<Address, &'static str> {
    const PORT: &str = "write HOST:PORT, with a port from 1 to 65535";
    let (host, port) = text.rsplit_once(':').ok_or(PORT)?;
    let host = host.parse().map_err(|_| "the host is neither an IP address (IPv6 in brackets) nor a domain name")?;
    let port: NonZeroU16 = port.parse().map_err(|_| PORT)?;
    Ok(Address { host, port: port.get() })
}
