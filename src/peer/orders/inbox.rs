//! The way from the readers of two peers to their handlers, who share the memory: every message comes once and in
//! order, nobody waits for what is there, and nothing is held at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shuttle::future::{block_on, spawn};

use crate::peer::budget::{ALLOWANCE, Account, Budget};
use crate::peer::channel::{ChannelReceiver, Message};
use crate::peer::inbox::{Inbox, InboxLimits};
use crate::sync::explored::{Timers, begin, choose, explore, rest};

/// Messages from each peer.
const MESSAGES: u64 = 5;

/// What a peer may hold of a message's size without asking, and more.
static BYTES: [u8; ALLOWANCE + 64 * 1024] = [0; ALLOWANCE + 64 * 1024];

/// What both peers share: less than the two of them would like.
const POOL: usize = 64 * 1024;

const PATIENCE: Duration = Duration::from_secs(20);

/// Delivers messages as the reader of a peer does; whether its handler has stalled.
async fn read(inbox: Arc<Inbox>, account: Arc<Account>) -> bool {
    for code in 0..MESSAGES {
        let size = choose(BYTES.len() as u32) as usize;
        if !account.try_charge(size) {
            account.charge(size, PATIENCE).await;
        }
        let mut offered = inbox.offer(Message::new(code, Bytes::from_static(&BYTES[..size])));
        while let Err(refused) = offered {
            if inbox.room(size, PATIENCE).await.is_err() {
                account.discharge(size);
                inbox.close();
                return true;
            }
            offered = inbox.offer(refused);
        }
    }
    inbox.close();
    false
}

/// Takes so many messages, and then leaves.
async fn handle(mut receiver: ChannelReceiver, most: u64) -> Vec<u64> {
    let mut codes = Vec::new();
    while (codes.len() as u64) < most {
        let Some(message) = receiver.recv().await else { break };
        codes.push(message.code);
    }
    codes
}

async fn peers(timers: Timers) {
    let budget = Budget::new(POOL);
    let limits = InboxLimits { messages: 3, bytes: 2 * BYTES.len() };
    begin(timers);
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let account = budget.account();
        let inbox = Arc::new(Inbox::new(limits, account.clone()));
        let most = if choose(3) == 0 { u64::from(choose(4)) } else { u64::MAX };
        let receiver = ChannelReceiver::new(inbox.clone());
        tasks.push((spawn(read(inbox, account.clone())), spawn(handle(receiver, most)), most, account));
    }
    let mut accounts = Vec::new();
    for (reader, handler, most, account) in tasks {
        let has_stalled = reader.await.expect("it ends by itself");
        let codes = handler.await.expect("it ends by itself");
        let all: Vec<u64> = (0..MESSAGES.min(most)).collect();
        assert!(all.starts_with(&codes), "R64: {codes:?}: in order, once, without a gap");
        if timers == Timers::Never {
            assert!(!has_stalled && codes == all, "R10: {codes:?} of {all:?}");
        }
        accounts.push(account);
    }
    rest();
    assert_eq!(budget.used(), 0, "R10 R71: who holds nothing keeps nothing of the pool");
    for account in accounts {
        assert!(account.try_charge(ALLOWANCE), "R10");
        assert_eq!(budget.used(), 0, "R10: what was taken in was taken out again, once");
    }
}

/// Otherwise two peers that hold nothing can wait for each other, until both are ended for it.
#[test]
fn bytes_that_are_not_charged_after_all_keep_nothing_of_the_pool() {
    explore(500, || {
        block_on(async {
            let budget = Budget::new(POOL);
            let (account, other) = (budget.account(), budget.account());
            let (most, half) = (ALLOWANCE + POOL, ALLOWANCE + POOL / 2);
            assert!(account.try_charge(half) && other.try_charge(half), "R10: each has half of the pool");
            begin(Timers::Never);
            let reader = spawn({
                let account = account.clone();
                async move { account.try_charge(most) }
            });
            account.discharge(half);
            let charged = reader.await.expect("it does not wait");
            rest();
            assert!(!charged, "R10: the other peer has what it would take");
            assert_eq!(budget.used(), POOL / 2, "R10 R71: it waits for the rest, and keeps nothing from others");
        });
    });
}

#[test]
fn every_message_comes_once_in_all_orders() {
    explore(1_500, || block_on(peers(Timers::Never)));
}

#[test]
fn patience_can_end_in_any_order() {
    explore(1_500, || block_on(peers(Timers::AnyMoment)));
}
