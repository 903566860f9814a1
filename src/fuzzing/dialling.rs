//! Two ends that dial each other, and all the orders in which what they send can arrive.

use std::collections::VecDeque;

use arbitrary::{Result, Unstructured};

use super::choice;
use crate::NodeId;
use crate::peer::Direction;
use crate::server::claims::{Claims, Ticket, Verdict};

/// What travels, in order on each connection and in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// The encryption handshake, there and back.
    Auth,
    Ack,
    Hello,
    AlreadyConnected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Setup,
    Peer,
    Over,
}

/// A connection at one end. The number of a connection is that of the end that has dialled it.
#[derive(Default)]
struct Line {
    place: Place,
    ticket: Option<Ticket>,
    has_sent: bool,
    has_heard: bool,
    /// What is under way to this end.
    incoming: VecDeque<Frame>,
}

struct End {
    id: NodeId,
    /// `None` for an end without the rule, which keeps what reaches its checks first.
    claims: Option<Claims>,
    lines: [Line; 2],
    has_dialled: bool,
    dials: bool,
}

/// What can happen: an end dials, or what has been sent first on a connection arrives at an end.
type Step = (usize, Option<usize>);

struct World([End; 2]);

/// Returns how many connections survive: 1, unless the input is empty.
pub(super) fn two_ends(input: &mut Unstructured<'_>) -> Result<usize> {
    if input.is_empty() {
        return Ok(0);
    }
    let (has_rule, is_first_smaller) = (choice(input, 3)? > 0, choice(input, 2)? == 0);
    let end = |number: usize| {
        let id = NodeId::from_bytes([if (number == 0) == is_first_smaller { 1 } else { 2 }; 32]);
        let claims = (number == 0 || has_rule).then(|| Claims::new(id));
        End { id, claims, lines: Default::default(), has_dialled: false, dials: false }
    };
    let mut world = World([end(0), end(1)]);
    loop {
        let steps = world.steps();
        let Some(last) = steps.len().checked_sub(1) else { break };
        // An input that is too short has what is first.
        let (end, line) = steps[usize::from(input.arbitrary::<u8>()?) % (last + 1)];
        match line {
            None => world.dial(end),
            Some(line) => world.arrives(end, line),
        }
        world.follow(end);
    }
    world.check();
    Ok(1)
}

impl World {
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, end) in self.0.iter().enumerate() {
            let lines = end.lines.iter().enumerate().filter(|(_, line)| !line.incoming.is_empty());
            steps.extend(lines.map(|(line, _)| (number, Some(line))));
            steps.extend((!end.has_dialled).then_some((number, None)));
        }
        steps
    }

    fn dial(&mut self, end: usize) {
        self.0[end].has_dialled = true;
        // Who is connected need not dial.
        if self.peer(end).is_some() {
            self.0[end].lines[end].place = Place::Over;
            self.0[1 - end].lines[end].place = Place::Over;
            return;
        }
        let other = self.0[1 - end].id;
        self.0[end].dials = true;
        let began = self.0[end].claims.as_mut().is_none_or(|claims| claims.begin_dial(other));
        assert!(began, "it is not being dialled");
        self.send(end, end, Frame::Auth);
    }

    fn send(&mut self, from: usize, line: usize, frame: Frame) {
        self.0[1 - from].lines[line].incoming.push_back(frame);
    }

    fn arrives(&mut self, end: usize, line: usize) {
        let Some(frame) = self.0[end].lines[line].incoming.pop_front() else { return };
        let is_setup = self.0[end].lines[line].place == Place::Setup;
        match frame {
            Frame::Auth if is_setup => {
                self.send(end, line, Frame::Ack);
                self.encrypted(end, line, Direction::Inbound);
            }
            Frame::Ack if is_setup => self.encrypted(end, line, Direction::Outbound),
            Frame::Hello if is_setup => self.hello(end, line),
            Frame::AlreadyConnected => self.over(end, line),
            Frame::Auth | Frame::Ack | Frame::Hello => {}
        }
    }

    fn encrypted(&mut self, end: usize, line: usize, direction: Direction) {
        let (other, is_connected) = (self.0[1 - end].id, self.peer(end).is_some());
        match &mut self.0[end].claims {
            Some(claims) => {
                let ticket = claims.connected(other, direction);
                self.0[end].lines[line].ticket = Some(ticket);
            }
            None if is_connected => self.refuse(end, line),
            None => {
                self.0[end].lines[line].has_sent = true;
                self.send(end, line, Frame::Hello);
            }
        }
    }

    fn hello(&mut self, end: usize, line: usize) {
        self.0[end].lines[line].has_heard = true;
        let is_connected = self.peer(end).is_some();
        match (self.0[end].lines[line].ticket, &mut self.0[end].claims) {
            (Some(ticket), Some(claims)) => claims.proved(&ticket),
            _ if is_connected => self.refuse(end, line),
            _ => self.admitted(end, line),
        }
    }

    fn admitted(&mut self, end: usize, line: usize) {
        assert_eq!(self.peer(end), None, "R45: one connection with a node");
        self.0[end].lines[line].place = Place::Peer;
    }

    fn refuse(&mut self, end: usize, line: usize) {
        self.send(end, line, Frame::AlreadyConnected);
        self.over(end, line);
    }

    fn over(&mut self, end: usize, line: usize) {
        let End { claims, lines, .. } = &mut self.0[end];
        let line = &mut lines[line];
        assert_ne!(line.place, Place::Peer, "H63: a peer is refused by the other end");
        if std::mem::replace(&mut line.place, Place::Over) == Place::Setup {
            line.ticket.iter().zip(claims).for_each(|(ticket, claims)| claims.end(ticket));
        }
    }

    /// Does what may be done now at an end, and ends its dial when it is known what came of it.
    fn follow(&mut self, end: usize) {
        for number in 0..2 {
            let line = &self.0[end].lines[number];
            let (has_sent, has_heard) = (line.has_sent, line.has_heard);
            let Some(ticket) = line.ticket.filter(|_| line.place == Place::Setup) else { continue };
            let Some(claims) = &mut self.0[end].claims else { continue };
            match claims.verdict(&ticket) {
                Verdict::Turn if has_heard => {
                    assert!(claims.admit(&ticket), "it has its turn");
                    self.0[end].lines[number].has_sent = true;
                    if !has_sent {
                        self.send(end, number, Frame::Hello);
                    }
                    self.admitted(end, number);
                    // The others are refused.
                    return self.follow(end);
                }
                Verdict::Turn if !has_sent => {
                    self.0[end].lines[number].has_sent = true;
                    self.send(end, number, Frame::Hello);
                }
                Verdict::Turn | Verdict::Wait => {}
                Verdict::Refuse => self.refuse(end, number),
            }
        }
        self.end_dial(end);
    }

    fn end_dial(&mut self, end: usize) {
        let other = self.0[1 - end].id;
        let is_alone = self.peer(end).is_none();
        let End { claims, lines, dials, .. } = &mut self.0[end];
        // Every connection that is over was refused.
        let may_join = claims.as_ref().is_some_and(|claims| claims.is_coming(&other));
        if !*dials || lines[end].place == Place::Setup || may_join && is_alone {
            return;
        }
        assert!(!is_alone || claims.is_none(), "R45: each dial leads to the peer");
        *dials = false;
        claims.iter_mut().for_each(|claims| claims.end_dial(&other));
    }

    fn peer(&self, end: usize) -> Option<usize> {
        self.0[end].lines.iter().position(|line| line.place == Place::Peer)
    }

    fn check(&self) {
        let kept = self.peer(0);
        assert!(kept.is_some() && kept == self.peer(1), "H63: both ends keep the same: {kept:?}, {:?}", self.peer(1));
        for end in &self.0 {
            let left = end.lines.iter().filter(|line| line.place != Place::Over).count();
            assert_eq!(left, 1, "H63: exactly one survives");
            let dials = end.claims.as_ref().map_or(0, Claims::dials);
            assert_eq!(dials, 0, "R45: every dial is over");
        }
    }
}
