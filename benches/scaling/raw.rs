//! The same load over plain TCP: what of the cost is the operating system's and the runtime's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::Failure;

/// What a message of [`crate::cost::SIZE`] bytes takes on the wire: header, body and two tags.
const FRAME: usize = 320;

/// Connections within this process, whose far ends read into a buffer of their thread's stack.
#[derive(Debug)]
pub(crate) struct Sockets {
    streams: Vec<Mutex<TcpStream>>,
    received: Arc<AtomicU64>,
    _readers: JoinSet<()>,
}

impl Sockets {
    pub(crate) async fn connect(count: usize) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (received, mut streams, mut readers) = (Arc::new(AtomicU64::new(0)), Vec::new(), JoinSet::new());
        for _ in 0..count {
            let (stream, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
            let stream = stream?;
            stream.set_nodelay(true)?;
            streams.push(Mutex::new(stream));
            readers.spawn(read(accepted?.0, received.clone()));
        }
        Ok(Self { streams, received, _readers: readers })
    }

    pub(crate) async fn send(&self, to: usize) -> Result<(), Failure> {
        Ok(self.streams[to % self.streams.len()].lock().await.write_all(&[7; FRAME]).await?)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed) / FRAME as u64
    }
}

async fn read(stream: TcpStream, received: Arc<AtomicU64>) {
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => drop(received.fetch_add(read as u64, Ordering::Relaxed)),
            Err(_) => {}
        }
    }
}
