//! Requests to any peer, which are made to another one when there is no answer.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use capmux::rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use capmux::testing::{self, Pair, node};
use capmux::typed::{self, Asked, Attempts, BodyError, MessageSet, Request, RequestError, RequestPool, TypedChannel};
use capmux::{DisconnectReason, NodeKey, Peer, Pick, Protocol, Server};
use support::{assert_elapsed, settle, soon};
use tokio::time::Instant;

/// "What is one more than this?"
#[derive(Debug, Clone)]
struct Next(u64);

impl Encodable for Next {
    fn rlp_append(&self, stream: &mut RlpStream) {
        self.0.rlp_append(stream);
    }
}

impl Decodable for Next {
    fn decode(body: &Rlp<'_>) -> Result<Self, DecoderError> {
        Ok(Self(body.as_val()?))
    }
}

impl Request for Next {
    type Messages = Messages;
    type Answer = u64;
    const CODE: u64 = 0;
    const ANSWER_CODE: u64 = 1;
}

enum Messages {
    Next(Asked<Next>),
}

impl MessageSet for Messages {
    const LENGTH: u64 = 2;
    const ANSWER_CODES: &'static [u64] = &[Next::ANSWER_CODE];

    fn parts(&self) -> (u64, &dyn Encodable) {
        let Self::Next(body) = self;
        (Next::CODE, body)
    }

    fn from_parts(code: u64, body: &Rlp<'_>) -> Result<Self, BodyError> {
        if code == Next::CODE { Ok(Self::Next(body.as_val()?)) } else { Err(BodyError::UnknownCode) }
    }
}

type Pool = RequestPool<Messages>;

/// What a peer does when it is asked.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Answers,
    Ignores,
    Leaves,
}

fn server(manner: Manner) -> Protocol {
    typed::protocol("next", 1, move |_, mut channel: TypedChannel<Messages>| async move {
        while let Some(Messages::Next(Asked { id, request: Next(number) })) = channel.recv().await? {
            match manner {
                Manner::Answers => channel.answer(id, &(number + 1)).await?,
                Manner::Ignores => {}
                Manner::Leaves => return Ok(()),
            }
        }
        Ok(())
    })
}

fn client(pool: &Pool) -> Protocol {
    let pool = pool.clone();
    typed::protocol("next", 1, move |peer, mut channel: TypedChannel<Messages>| {
        let pool = pool.clone();
        async move {
            let _membership = pool.join(&peer, channel.sender());
            while channel.recv().await?.is_some() {}
            Ok(())
        }
    })
}

/// A pool with peers of these manners, in the order in which they are asked: those that have been timed first.
async fn pool<const N: usize>(manners: [Manner; N]) -> (Pool, [Pair; N]) {
    let pool = Pool::seeded(1);
    let protocol = client(&pool);
    let mut pairs = Vec::new();
    for manner in manners {
        let pair = testing::pair(node().protocol(protocol.clone()), node().protocol(server(manner))).await;
        assert!(soon(pool.sender(&pair.at_first)).await.is_some(), "it joins");
        pairs.push(pair);
    }
    (pool, pairs.try_into().expect("one for each manner"))
}

const EACH: Duration = Duration::from_secs(2);

fn attempts() -> Attempts {
    Attempts { limit: 5, timeout: EACH, deadline: 4 * EACH, pick: Pick::Fastest }
}

fn any(_: &Peer) -> bool {
    true
}

#[tokio::test(start_paused = true)]
async fn a_request_is_made_to_another_peer_on_timeout_and_on_disconnect() {
    let (pool, [mute, leaving, good]) = pool([Manner::Ignores, Manner::Leaves, Manner::Answers]).await;
    let start = Instant::now();
    let answer = pool.request(&Next(4), attempts(), any).await;
    assert_eq!(answer.expect("the third answers"), (good.at_first.id(), 5), "R61");
    assert_elapsed(start, EACH, "R61: the first had its time, the second left at once");
    soon(leaving.at_first.closed()).await;
    settle().await;
    assert_eq!(pool.count(), 2, "R61: the one that left is asked no more");
    let fast = pool.request(&Next(7), attempts(), |peer| *peer != mute.at_first).await;
    assert_eq!(fast.expect("it answers").1, 8, "R61: only those that will do are asked");
}

#[tokio::test(start_paused = true)]
async fn the_error_lists_who_was_asked() {
    let (pool, [mute, leaving]) = pool([Manner::Ignores, Manner::Leaves]).await;
    let error = pool.request(&Next(4), attempts(), any).await.expect_err("nobody answers");
    let (first, second) = (mute.at_first.id(), leaving.at_first.id());
    let expected = [(first, RequestError::Timeout { limit: EACH }), (second, RequestError::Gone)];
    assert_eq!(error.tried, expected, "R61");
    let text = error.to_string();
    assert!(text.contains(&first.to_string()) && text.contains(&second.to_string()), "R61: {text}");

    let nobody = Pool::new().request(&Next(4), attempts(), any).await.expect_err("there is nobody");
    assert_eq!((nobody.tried.len(), nobody.to_string().as_str()), (0, "no answer: there is no peer to ask"), "R61");
}

#[tokio::test(start_paused = true)]
async fn attempts_and_time_are_bounded() {
    let (pool, _pairs) = pool([Manner::Ignores; 6]).await;
    let start = Instant::now();
    let error = pool.request(&Next(4), Attempts { limit: 2, ..attempts() }, any).await.expect_err("nobody answers");
    assert_eq!(error.tried.len(), 2, "R61: so many peers");
    assert_elapsed(start, 2 * EACH, "R61");
    let start = Instant::now();
    let short = Attempts { deadline: EACH * 5 / 2, pick: Pick::Random, ..attempts() };
    let error = pool.request(&Next(4), short, any).await.expect_err("nobody answers");
    assert_elapsed(start, short.deadline, "R61: so much time in all");
    let distinct: HashSet<_> = error.tried.iter().map(|(id, _)| *id).collect();
    assert_eq!((error.tried.len(), distinct.len()), (3, 3), "R61: none is asked twice");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_speak_the_protocol_never_joins() {
    let pool = Pool::new();
    let (other, _opened) = testing::manual("other", 1, 1);
    let (same, _same) = testing::manual("other", 1, 1);
    let pair = testing::pair(node().protocol(other).protocol(client(&pool)), node().protocol(same)).await;
    let peer = pair.at_first.clone();
    let asked = tokio::spawn(async move { pool.sender(&peer).await.is_some() });
    settle().await;
    drop(pair);
    assert!(!soon(asked).await.expect("no panic"), "R61");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_going_is_not_asked_and_its_node_is_when_it_is_back() {
    let pool = Pool::seeded(1);
    let joining = pool.clone();
    // A handler that goes on after its peer has gone.
    let protocol = typed::protocol("next", 1, move |peer, channel: TypedChannel<Messages>| {
        let pool = joining.clone();
        async move {
            let _membership = pool.join(&peer, channel.sender());
            let (_sender, mut receiver) = channel.split();
            while receiver.recv().await?.is_some() {}
            std::future::pending().await
        }
    });
    let key = NodeKey::random();
    let connect = async |manner| {
        let other = Server::builder(key.clone()).protocol(server(manner));
        let pair = testing::pair(node().protocol(protocol.clone()), other).await;
        assert!(soon(pool.sender(&pair.at_first)).await.is_some(), "it joins");
        pair
    };
    let going = connect(Manner::Leaves).await;
    going.at_second.disconnect(DisconnectReason::Requested);
    settle().await;
    let error = pool.request(&Next(4), attempts(), any).await.expect_err("nobody is there");
    assert_eq!((pool.count(), error.tried), (1, vec![]), "R61: who cannot be sent to is no attempt");
    let back = connect(Manner::Answers).await;
    let answer = pool.request(&Next(4), attempts(), any).await;
    assert_eq!((pool.count(), answer.expect("it is back")), (2, (back.at_first.id(), 5)), "R61");
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_for_ever() {
    let (pool, _pairs) = pool([Manner::Answers]).await;
    let patient = Attempts { timeout: Duration::MAX, deadline: Duration::MAX, ..attempts() };
    assert_eq!(pool.request(&Next(4), patient, any).await.expect("it answers").1, 5, "R61");
}
