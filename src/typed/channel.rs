//! A channel whose messages are values.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rlp::{Encodable, Rlp, RlpStream};
use tokio_stream::Stream;

use super::requests::{Pending, Place, Refusal, Requests, Undelivered};
use super::{Asked, BodyError, Breach, MessageSet, Request, RequestError, RequestId};
use crate::p2p::Capability;
use crate::peer::{Channel, ChannelReceiver, ChannelSender, Message, SendError};
use crate::rlp_list::{self, RlpList};

/// Both directions of a protocol with one peer, in messages of `M`.
pub struct TypedChannel<M> {
    sender: TypedSender<M>,
    receiver: TypedReceiver<M>,
}

impl<M: MessageSet> TypedChannel<M> {
    /// Makes messages of what goes over a channel.
    pub fn new(channel: Channel) -> Self {
        let (sender, receiver) = channel.split();
        let requests = Arc::new(Requests::new(M::MAX_OUTSTANDING));
        let capability = sender.capability().clone();
        let sender = TypedSender { sender, requests: requests.clone(), messages: PhantomData };
        let receiver = TypedReceiver { receiver, intake: Intake::new(capability, requests) };
        Self { sender, receiver }
    }

    /// Which protocol and version was agreed on.
    pub fn capability(&self) -> &Capability {
        self.sender.capability()
    }

    /// The next message. See [`TypedReceiver::recv`].
    ///
    /// # Errors
    /// [`Breach`].
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Option<M>, Breach> {
        self.receiver.recv().await
    }

    /// Sends a message. See [`TypedSender::send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, message: &M) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// Queues a message if there is a place, without waiting.
    ///
    /// # Errors
    /// [`SendError`], [`SendError::Full`] among it.
    pub fn try_send(&self, message: &M) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// Answers a request. See [`TypedSender::answer`].
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn answer<R: Request<Messages = M>>(
        &self,
        id: RequestId<R>,
        answer: &R::Answer,
    ) -> Result<(), SendError> {
        self.sender.answer(id, answer).await
    }

    /// Another handle on the sending direction, which is the one to make requests with.
    pub fn sender(&self) -> TypedSender<M> {
        self.sender.clone()
    }

    /// The two directions as values that can be moved to different tasks.
    pub fn split(self) -> (TypedSender<M>, TypedReceiver<M>) {
        (self.sender, self.receiver)
    }
}

impl<M: MessageSet> Stream for TypedChannel<M> {
    type Item = Result<M, Breach>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

impl<M> fmt::Debug for TypedChannel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedChannel").field("sender", &self.sender).field("receiver", &self.receiver).finish()
    }
}

/// The receiving direction of a [`TypedChannel`]; a `Stream` of messages and breaches. When it is dropped, every
/// outstanding request fails with [`RequestError::Gone`].
pub struct TypedReceiver<M> {
    receiver: ChannelReceiver,
    intake: Intake<M>,
}

impl<M: MessageSet> TypedReceiver<M> {
    /// The next message; `None` when the peer is gone and all its messages are read. Answers are taken to who asked for
    /// them on the way.
    ///
    /// # Errors
    /// [`Breach`]: what the peer has done wrong. Return it from the handler, and the peer is disconnected.
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped, nor an answer.
    pub async fn recv(&mut self) -> Result<Option<M>, Breach> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await.transpose()
    }
}

/// What is made of the messages that come.
pub(crate) struct Intake<M> {
    capability: Capability,
    requests: Arc<Requests>,
    messages: PhantomData<fn() -> M>,
}

impl<M: MessageSet> Intake<M> {
    pub(crate) fn new(capability: Capability, requests: Arc<Requests>) -> Self {
        Self { capability, requests, messages: PhantomData }
    }

    /// The message, unless it is an answer.
    pub(crate) fn take(&self, message: &Message) -> Result<Option<M>, Breach> {
        let code = message.code;
        if M::ANSWER_CODES.contains(&code) {
            return self.answered(message).map(|()| None);
        }
        let decoded = checked(message).and_then(|body| M::from_parts(code, &body));
        decoded.map(Some).map_err(|error| self.unread(code, error))
    }

    /// Takes an answer to who asked for it. Before anybody is known to have, no more than the id is decoded.
    fn answered(&self, message: &Message) -> Result<(), Breach> {
        let code = message.code;
        let id = RlpList::new(&message.payload).and_then(|mut list| list.value());
        let id: u64 = id.map_err(|error| self.unread(code, error.into()))?;
        let capability = || self.capability.clone();
        let deliver = self.requests.claim(id, code).map_err(|refusal| match refusal {
            Refusal::Unsolicited => Breach::Unsolicited { capability: capability(), code, id },
            Refusal::WrongKind { expected } => Breach::WrongKind { capability: capability(), code, expected, id },
        })?;
        let Some(deliver) = deliver else { return Ok(()) };
        let delivered = checked(message).map_err(Undelivered::Body).and_then(|body| deliver(&body));
        delivered.map_err(|error| match error {
            Undelivered::Body(error) => self.unread(code, error),
            Undelivered::Unfit(source) => Breach::Unfit { capability: capability(), code, id, source },
        })
    }

    fn unread(&self, code: u64, error: BodyError) -> Breach {
        let capability = self.capability.clone();
        match error {
            BodyError::UnknownCode => Breach::UnknownCode { capability, code },
            BodyError::Malformed(source) => Breach::Malformed { capability, code, source },
        }
    }
}

/// The body, well-formed to its end.
fn checked(message: &Message) -> Result<Rlp<'_>, BodyError> {
    rlp_list::check(&message.payload)?;
    Ok(Rlp::new(&message.payload))
}

impl<M: MessageSet> Stream for TypedReceiver<M> {
    type Item = Result<M, Breach>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(message) = ready!(Pin::new(&mut self.receiver).poll_next(context)) else {
                self.intake.requests.close();
                return Poll::Ready(None);
            };
            if let Some(taken) = self.intake.take(&message).transpose() {
                return Poll::Ready(Some(taken));
            }
        }
    }
}

impl<M> Drop for TypedReceiver<M> {
    fn drop(&mut self) {
        self.intake.requests.close();
    }
}

impl<M> fmt::Debug for TypedReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedReceiver").field("capability", &self.intake.capability).finish_non_exhaustive()
    }
}

/// The sending direction of a [`TypedChannel`]. Clones share one queue, one order, and one set of requests. It does not
/// keep the connection open.
pub struct TypedSender<M> {
    sender: ChannelSender,
    requests: Arc<Requests>,
    messages: PhantomData<fn(M)>,
}

impl<M: MessageSet> TypedSender<M> {
    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Queues a message. Waiting, errors and cancel safety are those of [`ChannelSender::send`].
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message has not been queued.
    pub async fn send(&self, message: &M) -> Result<(), SendError> {
        let (code, body) = encoded(message);
        self.sender.send(code, body).await
    }

    /// Queues a message if there is a place, without waiting.
    ///
    /// # Errors
    /// [`SendError`], [`SendError::Full`] among it.
    pub fn try_send(&self, message: &M) -> Result<(), SendError> {
        let (code, body) = encoded(message);
        self.sender.try_send(code, body)
    }

    /// Queues the answer to a request. Waiting, errors and cancel safety are those of [`ChannelSender::send`], but the
    /// id is gone when the future is dropped.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn answer<R: Request<Messages = M>>(
        &self,
        id: RequestId<R>,
        answer: &R::Answer,
    ) -> Result<(), SendError> {
        const { codes_are_listed::<R>() };
        let mut body = RlpStream::new_list(2);
        body.append(&id.number()).append(answer);
        self.sender.send(R::ANSWER_CODE, body.out()).await
    }

    /// Sends a request and waits for its answer, `timeout` at most: for a place among the
    /// [`MessageSet::MAX_OUTSTANDING`], one in the send queue, and the answer, altogether.
    ///
    /// The channel has to be received from meanwhile, or the answer is not noticed.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the request is outstanding no longer and its place is free. It may have been sent;
    /// its answer is then dropped when it comes.
    pub async fn request<R: Request<Messages = M>>(
        &self,
        request: R,
        timeout: Duration,
    ) -> Result<R::Answer, RequestError> {
        let asking = async {
            let place = self.requests.place().await?;
            let (body, mut pending) = self.prepare(place, request)?;
            self.sender.send(R::CODE, body).await?;
            pending.is_sent = true;
            pending.answer().await
        };
        let answered = tokio::time::timeout(timeout, asking).await;
        answered.unwrap_or(Err(RequestError::Timeout { limit: timeout }))
    }

    /// [`TypedSender::request`] that waits for no place, only for the answer.
    ///
    /// # Errors
    /// [`RequestError`]: [`Full`](RequestError::Full) when as many requests are outstanding as may be,
    /// [`Send`](RequestError::Send) with [`SendError::Full`] when the send queue has no place.
    ///
    /// # Cancel safety
    /// As [`TypedSender::request`].
    pub async fn try_request<R: Request<Messages = M>>(
        &self,
        request: R,
        timeout: Duration,
    ) -> Result<R::Answer, RequestError> {
        let (body, mut pending) = self.prepare(self.requests.try_place()?, request)?;
        self.sender.try_send(R::CODE, body)?;
        pending.is_sent = true;
        let answered = tokio::time::timeout(timeout, pending.answer()).await;
        answered.unwrap_or(Err(RequestError::Timeout { limit: timeout }))
    }

    /// Waits until the peer is gone, or is about to be: nothing can be sent any more.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Which protocol and version was agreed on.
    pub fn capability(&self) -> &Capability {
        self.sender.capability()
    }

    /// Makes a request outstanding, and its bytes.
    fn prepare<R: Request>(&self, place: Place, request: R) -> Result<(BytesMut, Pending<'_, R>), RequestError> {
        const { codes_are_listed::<R>() };
        let asked = Asked::new(self.requests.next_id(), request);
        let body = asked.rlp_bytes();
        let pending = self.requests.expect(asked.id.number(), place, asked.request)?;
        Ok((body, pending))
    }
}

/// Not in the future that sends it, which has to be `Send`.
fn encoded<M: MessageSet>(message: &M) -> (u64, BytesMut) {
    let (code, body) = message.parts();
    (code, body.rlp_bytes())
}

/// Fails when it is compiled, rather than at the other end, if the codes of a request are not those of its protocol.
const fn codes_are_listed<R: Request>() {
    let mut answers = R::Messages::ANSWER_CODES;
    let mut is_listed = false;
    while let [first, rest @ ..] = answers {
        assert!(*first < R::Messages::LENGTH, "a code of an answer is not below the protocol's length");
        assert!(*first != R::CODE, "the code of the request is listed as that of an answer");
        is_listed |= *first == R::ANSWER_CODE;
        answers = rest;
    }
    assert!(is_listed, "the code of the answer is not among the protocol's ANSWER_CODES");
    assert!(R::CODE < R::Messages::LENGTH, "the code of the request is not below the protocol's length");
}

impl<M> Clone for TypedSender<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), requests: self.requests.clone(), messages: PhantomData }
    }
}

impl<M> fmt::Debug for TypedSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedSender").field("requests", &self.requests).finish_non_exhaustive()
    }
}
