//! Which requests are outstanding on one channel. It sends and awaits nothing but a place.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rlp::Rlp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use super::{BodyError, Request, items};
use crate::peer::SendError;
use crate::protocol::BoxError;

/// How many ids are remembered on a channel of requests that nobody waits for any longer. Of earlier ones only the number
/// is: so many answers are taken for theirs if their ids have been used at all. A slow peer is never blamed for what was
/// forgotten.
pub const MAX_LATE: usize = 256;

/// Why there is no answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// As many requests are outstanding as may be ([`TypedSender::try_request`](super::TypedSender::try_request)).
    #[error("{limit} requests are outstanding, the limit")]
    Full {
        /// [`MessageSet::MAX_OUTSTANDING`](super::MessageSet::MAX_OUTSTANDING).
        limit: usize,
    },
    /// It did not come in time.
    #[error("no answer came within {limit:?}")]
    Timeout {
        /// The time that was given.
        limit: Duration,
    },
    /// The request was not sent.
    #[error("the request was not sent")]
    Send(#[source] SendError),
    /// The peer went before it answered, or nobody receives from it any more.
    #[error("the peer went before it answered")]
    Gone,
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        if error == SendError::Closed { Self::Gone } else { Self::Send(error) }
    }
}

/// What has come for an id. Handing it over decodes it.
type Deliver = Box<dyn FnOnce(&Rlp<'_>) -> Result<(), Undelivered> + Send>;

/// Why an answer did not reach who asked.
#[derive(Debug)]
pub(crate) enum Undelivered {
    Body(BodyError),
    Unfit(BoxError),
}

/// Why an answer is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unsolicited,
    WrongKind { expected: u64 },
}

/// The requests of one channel.
pub(crate) struct Requests {
    limit: usize,
    places: Arc<Semaphore>,
    table: Mutex<Table>,
}

struct Table {
    first: u64,
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// The ids that are waited for no longer, oldest first, with the codes of their answers.
    late: VecDeque<(u64, u64)>,
    /// How many were dropped from there without an answer.
    forgotten: u64,
    closed: bool,
}

struct Waiting {
    answer_code: u64,
    deliver: Deliver,
    /// Free again when an answer has come or nobody waits for it.
    _place: Place,
}

/// The right to have one more request outstanding.
pub(crate) type Place = OwnedSemaphorePermit;

impl Requests {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let first = getrandom::u64().expect("the operating system has randomness");
        let (waiting, late) = (HashMap::new(), VecDeque::new());
        let table = Table { first, next: first, waiting, late, forgotten: 0, closed: false };
        Self { limit, places: Arc::new(Semaphore::new(limit)), table: Mutex::new(table) }
    }

    /// Waits for a place, first come, first served.
    pub(crate) async fn place(&self) -> Result<Place, RequestError> {
        self.places.clone().acquire_owned().await.map_err(|_| RequestError::Gone)
    }

    pub(crate) fn try_place(&self) -> Result<Place, RequestError> {
        self.places.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::Closed => RequestError::Gone,
            TryAcquireError::NoPermits => RequestError::Full { limit: self.limit },
        })
    }

    /// An id that this connection has not used: it does not live for 2^64 requests.
    pub(crate) fn next_id(&self) -> u64 {
        let mut table = self.table();
        let id = table.next;
        table.next = id.wrapping_add(1);
        id
    }

    /// Makes a request outstanding until what is returned is dropped.
    pub(crate) fn expect<R: Request>(&self, id: u64, place: Place, request: R) -> Result<Pending<'_, R>, RequestError> {
        let (sender, answer) = oneshot::channel();
        let deliver: Deliver = Box::new(move |body| {
            let answer = answer_in::<R>(body).map_err(Undelivered::Body)?;
            request.check(&answer).map_err(Undelivered::Unfit)?;
            // Who asked may just have given up.
            let _ = sender.send(answer);
            Ok(())
        });
        let mut table = self.table();
        if table.closed {
            return Err(RequestError::Gone);
        }
        table.waiting.insert(id, Waiting { answer_code: R::ANSWER_CODE, deliver, _place: place });
        Ok(Pending { requests: self, id, is_sent: false, answer })
    }

    /// Takes the request with this id as answered, and returns who to tell; nobody when it is too late.
    pub(crate) fn claim(&self, id: u64, code: u64) -> Result<Option<Deliver>, Refusal> {
        let mut table = self.table();
        if let Some(waiting) = table.waiting.get(&id) {
            same_kind(waiting.answer_code, code)?;
            return Ok(table.waiting.remove(&id).map(|waiting| waiting.deliver));
        }
        match table.late.iter().position(|(late, _)| *late == id) {
            Some(place) => {
                same_kind(table.late[place].1, code)?;
                table.late.remove(place);
            }
            None => table.forgive(id)?,
        }
        Ok(None)
    }

    /// Nobody waits for this answer any more.
    fn abandon(&self, id: u64, is_sent: bool) {
        let mut table = self.table();
        let Some(waiting) = table.waiting.remove(&id) else { return };
        if is_sent {
            table.late.push_back((id, waiting.answer_code));
            if table.late.len() > MAX_LATE {
                table.late.pop_front();
                table.forgotten += 1;
            }
        }
        drop(table);
        // The request is the user's: it is dropped past the lock.
        drop(waiting);
    }

    /// No answer will come any more.
    pub(crate) fn close(&self) {
        self.places.close();
        let mut table = self.table();
        table.closed = true;
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        drop(waiting);
    }

    /// No user code runs under the lock, and what does leaves the table whole.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Whether the answer under an id that is not remembered may be to one that was forgotten. As many may as were.
    fn forgive(&mut self, id: u64) -> Result<(), Refusal> {
        let is_used = id.wrapping_sub(self.first) < self.next.wrapping_sub(self.first);
        let left = self.forgotten.checked_sub(1).filter(|_| is_used);
        self.forgotten = left.ok_or(Refusal::Unsolicited)?;
        Ok(())
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        f.debug_struct("Requests")
            .field("limit", &self.limit)
            .field("outstanding", &table.waiting.len())
            .field("late", &table.late.len())
            .finish_non_exhaustive()
    }
}

/// A request that is outstanding as long as this lives, unless it is answered before.
pub(crate) struct Pending<'a, R: Request> {
    requests: &'a Requests,
    id: u64,
    /// Whether it has, or may have, reached the peer.
    pub(crate) is_sent: bool,
    answer: oneshot::Receiver<R::Answer>,
}

impl<R: Request> Pending<'_, R> {
    pub(crate) async fn answer(mut self) -> Result<R::Answer, RequestError> {
        (&mut self.answer).await.map_err(|_| RequestError::Gone)
    }
}

impl<R: Request> Drop for Pending<'_, R> {
    fn drop(&mut self) {
        self.requests.abandon(self.id, self.is_sent);
    }
}

fn same_kind(expected: u64, code: u64) -> Result<(), Refusal> {
    if expected == code { Ok(()) } else { Err(Refusal::WrongKind { expected }) }
}

fn answer_in<R: Request>(body: &Rlp<'_>) -> Result<R::Answer, BodyError> {
    let [_, answer] = items(body)?;
    Ok(answer.as_val()?)
}
