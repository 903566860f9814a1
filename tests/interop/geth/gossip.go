package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
)

const (
	gossipNonce = 8         // bytes before the payload
	gossipSeen  = 16 * 1024 // ids that are remembered
)

// gossipNode is the protocol gossip/1 for all peers: what was seen.
type gossipNode struct {
	n *node

	mu    sync.Mutex
	seen  map[common.Hash]struct{}
	order []common.Hash // of seen, oldest first
}

func newGossipNode(n *node) *gossipNode {
	return &gossipNode{n: n, seen: make(map[common.Hash]struct{})}
}

// publish sends a payload, in hex digits, to all peers.
func (g *gossipNode) publish(digits string) error {
	payload, err := hex.DecodeString(digits)
	if err != nil {
		return err
	}
	message := make([]byte, gossipNonce+len(payload))
	rand.Read(message[:gossipNonce])
	copy(message[gossipNonce:], payload)
	g.relay(message, nil)
	return nil
}

// readLoop takes what one peer sends.
func (g *gossipNode) readLoop(h *handler, rw p2p.MsgReadWriter) error {
	for {
		msg, err := rw.ReadMsg()
		if err != nil {
			return err
		}
		message, err := io.ReadAll(msg.Payload)
		if err != nil {
			return err
		}
		if len(message) < gossipNonce {
			return errors.New("gossip message without a nonce")
		}
		if g.relay(message, h) {
			emit(h.describe("delivered", msg.Code, message[gossipNonce:]))
		}
	}
}

// relay sends a message to all peers but the one that it came from, unless it
// was seen before. It tells whether it was new.
func (g *gossipNode) relay(message []byte, from *handler) bool {
	id := crypto.Keccak256Hash(message)
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.seen[id]; ok {
		return false
	}
	g.seen[id] = struct{}{}
	g.order = append(g.order, id)
	if len(g.order) > gossipSeen {
		delete(g.seen, g.order[0])
		g.order = g.order[1:]
	}
	for _, h := range g.n.handlers("gossip") {
		if h != from {
			h.queue(outgoing{code: 0, payload: message})
		}
	}
	return true
}
