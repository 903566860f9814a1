//! What runs with each peer: it answers and asks, and says where this node listens.

use std::future::pending;
use std::sync::Arc;

use capmux::book::Source;
use capmux::typed::{Asked, RequestError, TypedChannel, TypedReceiver, TypedSender};
use capmux::{BoxError, Direction, Peer};
use tokio::time::{Instant, sleep};

use crate::node::Node;
use crate::pace::{Gate, Outcome, Pace};
use crate::wire::{Announce, GetNodes, Nodes, PexMessage};
use crate::{MAX_RECORDS, Violation};

pub(crate) async fn run(node: Arc<Node>, peer: Peer, channel: TypedChannel<PexMessage>) -> Result<(), BoxError> {
    let (sender, receiver) = channel.split();
    let source = Source::Peer { id: peer.id(), ip: peer.remote_addr().map(|address| address.ip()) };
    let conversation = Conversation { node, peer, source, sender };
    tokio::select! {
        biased;
        heard = conversation.hear(receiver) => heard,
        // They end when nothing can be sent any more; what has come is heard all the same.
        () = async { tokio::join!(conversation.announce(), conversation.ask()); pending().await } => Ok(()),
    }
}

struct Conversation {
    node: Arc<Node>,
    peer: Peer,
    source: Source,
    sender: TypedSender<PexMessage>,
}

impl Conversation {
    /// Answers, until the peer is gone or does something wrong.
    async fn hear(&self, mut receiver: TypedReceiver<PexMessage>) -> Result<(), BoxError> {
        let mut gate = Gate::default();
        let mut has_announced = false;
        while let Some(message) = receiver.recv().await? {
            match message {
                PexMessage::GetNodes(Asked { id, request }) => {
                    let count = request.checked_count()?;
                    gate.enter(Instant::now())?;
                    let records = self.node.answer(&self.source, count);
                    self.sender.answer(id, &Nodes(records)).await?;
                }
                PexMessage::Announce(_) if has_announced => return Err(Violation::AnnouncedTwice.into()),
                PexMessage::Announce(Announce(announcement)) => {
                    has_announced = true;
                    self.node.announced(&self.source, &self.peer, announcement)?;
                }
            }
        }
        Ok(())
    }

    /// Says once where this node listens, as soon as it knows.
    async fn announce(&self) {
        let mut own = self.node.own.subscribe();
        let announcement = own.wait_for(Option::is_some).await.ok().and_then(|own| own.clone());
        if let Some(announcement) = announcement {
            // Whether it can be sent is no concern of the peer's.
            let _ = self.sender.send(&PexMessage::Announce(Announce(announcement))).await;
        }
    }

    /// Asks now and then, one request at a time.
    async fn ask(&self) {
        let mut pace = Pace::new(&self.node.settings, self.node.fork_rng());
        sleep(pace.first()).await;
        loop {
            let outcome = if self.is_asked() { self.ask_once().await } else { Some(Outcome::NoNews) };
            let Some(outcome) = outcome else { return };
            sleep(pace.after(outcome, self.node.knows_few())).await;
        }
    }

    fn is_asked(&self) -> bool {
        self.peer.direction() == Direction::Outbound || self.node.knows_few()
    }

    /// `None` when the peer is gone.
    async fn ask_once(&self) -> Option<Outcome> {
        self.node.asks();
        let request = GetNodes { count: MAX_RECORDS as u64 };
        match self.sender.request(request, self.node.settings.timeout).await {
            Ok(Nodes(records)) => Some(self.node.learn(&self.source, &self.peer, records)),
            Err(RequestError::Timeout { .. }) => Some(self.node.missed(&self.peer)),
            Err(_) => None,
        }
    }
}
