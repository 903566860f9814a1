//! Messages as values: an enum of what a peer may say, in RLP, and requests that are answered.
//!
//! On a [`Channel`] a message is a code and bytes. Here a handler matches on the variants of a [`MessageSet`], and asks
//! with a [`Request`], whose type says what it is answered with. Codes are written down once, with the message they
//! belong to; a handler never sees one.
//!
//! ```
//! use std::time::Duration;
//!
//! use capmux::rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
//! use capmux::typed::{self, Asked, BodyError, MessageSet, Request, TypedChannel};
//! use capmux::{NodeKey, Server};
//!
//! /// "What is the sum of these?"
//! struct Add {
//!     left: u64,
//!     right: u64,
//! }
//!
//! impl Encodable for Add {
//!     fn rlp_append(&self, stream: &mut RlpStream) {
//!         stream.begin_list(2).append(&self.left).append(&self.right);
//!     }
//! }
//!
//! impl Decodable for Add {
//!     fn decode(body: &Rlp<'_>) -> Result<Self, DecoderError> {
//!         let [left, right] = typed::items(body)?;
//!         Ok(Self { left: left.as_val()?, right: right.as_val()? })
//!     }
//! }
//!
//! impl Request for Add {
//!     type Messages = CalcMessage;
//!     type Answer = u128;
//!     const CODE: u64 = 0;
//!     const ANSWER_CODE: u64 = 1;
//! }
//!
//! /// What a peer may say.
//! enum CalcMessage {
//!     Add(Asked<Add>),
//!     Note(String),
//! }
//!
//! const NOTE: u64 = 2;
//!
//! impl MessageSet for CalcMessage {
//!     const LENGTH: u64 = 3;
//!     const ANSWER_CODES: &'static [u64] = &[Add::ANSWER_CODE];
//!
//!     fn parts(&self) -> (u64, &dyn Encodable) {
//!         match self {
//!             Self::Add(body) => (Add::CODE, body),
//!             Self::Note(body) => (NOTE, body),
//!         }
//!     }
//!
//!     fn from_parts(code: u64, body: &Rlp<'_>) -> Result<Self, BodyError> {
//!         Ok(match code {
//!             Add::CODE => Self::Add(body.as_val()?),
//!             NOTE => Self::Note(body.as_val()?),
//!             _ => return Err(BodyError::UnknownCode),
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let calc = typed::protocol("calc", 1, |_peer, mut channel: TypedChannel<CalcMessage>| async move {
//!     while let Some(message) = channel.recv().await? {
//!         match message {
//!             CalcMessage::Add(Asked { id, request: Add { left, right } }) => {
//!                 channel.answer(id, &(u128::from(left) + u128::from(right))).await?;
//!             }
//!             CalcMessage::Note(text) => println!("{text}"),
//!         }
//!     }
//!     Ok(())
//! });
//! let server = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse()?).protocol(calc).start().await?;
//!
//! let (sums, mut sum) = tokio::sync::mpsc::channel(1);
//! let asks = typed::protocol("calc", 1, move |_peer, channel: TypedChannel<CalcMessage>| {
//!     let sums = sums.clone();
//!     async move {
//!         let (sender, mut receiver) = channel.split();
//!         sender.send(&CalcMessage::Note("hello".into())).await?;
//!         let ask = async {
//!             let answer = sender.request(Add { left: 2, right: 3 }, Duration::from_secs(5)).await;
//!             let _ = sums.send(answer).await;
//!         };
//!         // Reading goes on while the request waits: its answer comes that way.
//!         let serve = async { while receiver.recv().await?.is_some() {} Ok(()) };
//!         tokio::join!(ask, serve).1
//!     }
//! });
//! let client = Server::builder(NodeKey::random()).protocol(asks).start().await?;
//! client.dial(&server.enode().expect("it listens")).await?;
//! assert_eq!(sum.recv().await.expect("the handler asks")?, 5);
//! # Ok(())
//! # }
//! ```
//!
//! `protocols/kv` is a complete protocol made with it, with a handle for the application.
//!
//! # Requests and answers
//! A request is `[request-id, request]`, its answer `[request-id, answer]`, the form that `eth` has had since version
//! 66. The ids of one channel begin at a random number and count up; none is used twice.
//!
//! [`TypedReceiver::recv`] takes answers to who asked for them: they are no variants of the enum, and a handler does
//! not see them. So somebody must be receiving: a handler that awaits [`TypedSender::request`] in the loop that
//! receives waits until the timeout. It is for another task, or the other arm of a `join!` or `select!`.
//!
//! Each answer reaches who asked once. At most [`MessageSet::MAX_OUTSTANDING`] requests are outstanding on a channel;
//! [`TypedSender::request`] waits for a place, [`TypedSender::try_request`] does not. A request whose time is over, or
//! whose future was dropped, gives its place up at once. Its answer may still be on its way, and is then dropped
//! undecoded; [`MAX_LATE`] such ids are remembered, and of earlier ones the number. When the channel is received from
//! no longer, which is so when the peer is gone and all it said is read, every request fails with
//! [`RequestError::Gone`].
//!
//! # Requests to any peer
//! [`RequestPool::request`] asks one of the peers that have joined the pool, the fastest or any, and asks another one
//! when that does not answer in time or goes.
//!
//! # What ends a peer
//! What a peer does wrong is a [`Breach`]. A handler that returns it, as the `?` above does, ends that peer alone with
//! [`SubprotocolError`](crate::DisconnectReason::SubprotocolError). An answer is refused by its id alone, before
//! anything else in it is decoded, when nobody asked for it or its code is that of an answer to something else.
//!
//! # Why there is no macro
//! Each message takes one line in each direction, and the compiler tells which is missing. A macro would save those and
//! hide where the codes are; a body that is to be checked needs a hand-written `Decodable` anyway, as `rlp`'s derived
//! ones ignore surplus items.

mod breach;
pub(crate) mod channel;
mod pool;
pub(crate) mod requests;

use std::fmt;
use std::marker::PhantomData;

use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

pub use breach::Breach;
pub use channel::{TypedChannel, TypedReceiver, TypedSender};
pub use pool::{Attempts, PoolMembership, RequestPool, Unanswered};
pub use requests::{MAX_LATE, RequestError};

use crate::peer::{Channel, Peer};
use crate::protocol::{BoxError, Protocol};
use crate::rlp_list::RlpList;

/// The messages of a protocol, as an enum: what a peer may say without having been asked, requests among it.
///
/// Answers are no part of it. They belong to their [`Request`].
pub trait MessageSet: Sized + Send + Sync + 'static {
    /// How many codes the protocol has, those of answers included. Both ends must have the same.
    const LENGTH: u64;

    /// Which of the codes are answers. Default none.
    const ANSWER_CODES: &'static [u64] = &[];

    /// How many requests to one peer may be outstanding. Default 64; with 0, none can be made.
    const MAX_OUTSTANDING: usize = 64;

    /// The code and the body of a message.
    fn parts(&self) -> (u64, &dyn Encodable);

    /// Reads the body of the message with this code, which is below [`LENGTH`](Self::LENGTH) and not among the
    /// [`ANSWER_CODES`](Self::ANSWER_CODES).
    ///
    /// `body` is well-formed to its end, with lists nested at most 64 deep. What an implementation does not look at
    /// goes unnoticed: [`items`] reads a list that must have so many items and no more.
    ///
    /// # Errors
    /// [`BodyError::UnknownCode`] when no message has this code; else why the body is not such a message.
    fn from_parts(code: u64, body: &Rlp<'_>) -> Result<Self, BodyError>;
}

/// A message that is answered. In RLP it is what follows the request id.
pub trait Request: Encodable + Decodable + Send + 'static {
    /// The messages that it is one of, as a variant with an [`Asked`].
    type Messages: MessageSet;

    /// What it is answered with. In RLP that is what follows the request id.
    type Answer: Encodable + Decodable + Send + Sync + 'static;

    /// Its code.
    const CODE: u64;

    /// The code of its answer, one of [`MessageSet::ANSWER_CODES`]: else what uses it does not compile.
    const ANSWER_CODE: u64;

    /// Whether this is an answer to this request: no more items than asked for, say. Default: every answer is.
    ///
    /// # Errors
    /// What is wrong with it, which ends the peer as [`Breach::Unfit`].
    fn check(&self, answer: &Self::Answer) -> Result<(), BoxError> {
        let _ = answer;
        Ok(())
    }
}

/// A request as it is sent and received: `[request-id, request]`.
pub struct Asked<R> {
    /// What to answer it under.
    pub id: RequestId<R>,
    /// The request.
    pub request: R,
}

impl<R> Asked<R> {
    /// A request with an id that was chosen already, as in tests. [`TypedSender::request`] chooses one itself.
    pub fn new(id: u64, request: R) -> Self {
        Self { id: RequestId { id, request: PhantomData }, request }
    }
}

impl<R: Encodable> Encodable for Asked<R> {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.begin_list(2).append(&self.id.id).append(&self.request);
    }
}

impl<R: Decodable> Decodable for Asked<R> {
    fn decode(body: &Rlp<'_>) -> Result<Self, DecoderError> {
        let [id, request] = items(body)?;
        Ok(Self::new(id.as_val()?, request.as_val()?))
    }
}

impl<R: PartialEq> PartialEq for Asked<R> {
    fn eq(&self, other: &Self) -> bool {
        self.id.id == other.id.id && self.request == other.request
    }
}

impl<R: fmt::Debug> fmt::Debug for Asked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("id", &self.id.id).field("request", &self.request).finish()
    }
}

/// The id of a request that has come. Answering takes it, so that no request is answered twice, or by an answer to
/// another kind of request.
pub struct RequestId<R> {
    id: u64,
    request: PhantomData<fn() -> R>,
}

impl<R> RequestId<R> {
    /// The number on the wire.
    pub fn number(&self) -> u64 {
        self.id
    }
}

impl<R> fmt::Debug for RequestId<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.id).finish()
    }
}

/// Why the body of a message was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No message has the code.
    #[error("no message has this code")]
    UnknownCode,
    /// It is not what the message consists of.
    #[error("the body is malformed")]
    Malformed(#[from] DecoderError),
}

/// A protocol whose handler is a function of a [`TypedChannel`]; [`Protocol::from_fn`] tells the rest. Its number of
/// codes is [`MessageSet::LENGTH`].
pub fn protocol<M, F, Fut>(name: impl Into<String>, version: u64, function: F) -> Protocol
where
    M: MessageSet,
    F: Fn(Peer, TypedChannel<M>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let run = move |peer, channel: Channel| function(peer, TypedChannel::new(channel));
    Protocol::from_fn(name, version, M::LENGTH, run)
}

/// The items of a list that must have exactly `N`.
///
/// # Errors
/// When it is not a list, has fewer or more items, or one of them is malformed.
pub fn items<'a, const N: usize>(list: &Rlp<'a>) -> Result<[Rlp<'a>; N], DecoderError> {
    let mut rest = RlpList::new(list.as_raw())?;
    let mut items = Vec::with_capacity(N);
    while let Some(item) = rest.next_item()? {
        if items.len() == N {
            return Err(DecoderError::RlpIncorrectListLen);
        }
        items.push(item);
    }
    items.try_into().map_err(|_| DecoderError::RlpIncorrectListLen)
}
