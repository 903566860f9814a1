package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/rlp"
)

// The codes of kv/1. An answer has the code after its request's.
const (
	kvGetCode = iota
	kvValueCode
	kvPutCode
	kvStoredCode
	kvListCode
	kvKeysCode
)

const kvMaxCount = 256

type kvGet struct {
	ID  uint64
	Key []byte
}

type kvValue struct {
	ID    uint64
	Value [][]byte // one or none
}

type kvEntry struct{ Key, Value []byte }

type kvPut struct {
	ID    uint64
	Entry kvEntry
}

type kvStored struct {
	ID     uint64
	Stored bool
}

type kvRange struct {
	After []byte
	Count uint64
}

type kvList struct {
	ID    uint64
	Range kvRange
}

type kvKeys struct {
	ID   uint64
	Keys [][]byte
}

// kvCommand is what a command has beside the usual. Bytes are hex digits.
type kvCommand struct {
	Op      string `json:"op"`
	Key     string `json:"key"`
	Value   string `json:"value"`
	Count   uint64 `json:"count"`
	Request uint64 `json:"request"`
}

// kvAsked is a request that has no answer yet, by its handler.
type kvAsked struct {
	h  *handler
	id uint64
}

// kvNode is the protocol kv/1 for all peers: a store, and what we have asked.
type kvNode struct {
	mu    sync.Mutex
	store map[string][]byte
	asked map[kvAsked]uint64 // the code of the answer
	next  uint64
	twice bool // whether the next Get is answered twice
}

func newKVNode() *kvNode {
	return &kvNode{store: make(map[string][]byte), asked: make(map[kvAsked]uint64)}
}

// run carries out a command for a peer.
func (kv *kvNode) run(h *handler, c kvCommand) error {
	key, err := hex.DecodeString(c.Key)
	if err != nil {
		return err
	}
	value, err := hex.DecodeString(c.Value)
	if err != nil {
		return err
	}
	switch c.Op {
	case "get":
		return kv.ask(h, kvGetCode, func(id uint64) any { return &kvGet{id, key} })
	case "put":
		return kv.ask(h, kvPutCode, func(id uint64) any { return &kvPut{id, kvEntry{key, value}} })
	case "list":
		return kv.ask(h, kvListCode, func(id uint64) any { return &kvList{id, kvRange{key, c.Count}} })
	case "twice":
		kv.mu.Lock()
		kv.twice = true
		kv.mu.Unlock()
		return nil
	case "forge":
		return send(h, kvValueCode, &kvValue{c.Request, [][]byte{value}}, true)
	default:
		return fmt.Errorf("unknown op %q", c.Op)
	}
}

func (kv *kvNode) ask(h *handler, code uint64, request func(id uint64) any) error {
	kv.mu.Lock()
	kv.next++
	id := kv.next
	kv.asked[kvAsked{h, id}] = code + 1
	kv.mu.Unlock()
	return send(h, code, request(id), false)
}

func send(h *handler, code uint64, body any, report bool) error {
	payload, err := rlp.EncodeToBytes(body)
	if err != nil {
		return err
	}
	h.queue(outgoing{code: code, payload: payload, report: report})
	return nil
}

// readLoop serves one peer. Its error ends the peer.
func (kv *kvNode) readLoop(h *handler, rw p2p.MsgReadWriter) error {
	for {
		msg, err := rw.ReadMsg()
		if err != nil {
			return err
		}
		payload, err := io.ReadAll(msg.Payload)
		if err != nil {
			return err
		}
		if err := kv.handle(h, msg.Code, payload); err != nil {
			return fmt.Errorf("kv message %d: %w", msg.Code, err)
		}
	}
}

func (kv *kvNode) handle(h *handler, code uint64, payload []byte) error {
	switch code {
	case kvGetCode:
		var get kvGet
		if err := rlp.DecodeBytes(payload, &get); err != nil {
			return err
		}
		value := [][]byte{}
		kv.mu.Lock()
		if found, ok := kv.store[string(get.Key)]; ok {
			value = append(value, found)
		}
		twice := kv.twice
		kv.twice = false
		kv.mu.Unlock()
		if twice {
			send(h, kvValueCode, &kvValue{get.ID, value}, false)
		}
		return send(h, kvValueCode, &kvValue{get.ID, value}, false)

	case kvPutCode:
		var put kvPut
		if err := rlp.DecodeBytes(payload, &put); err != nil {
			return err
		}
		kv.mu.Lock()
		kv.store[string(put.Entry.Key)] = put.Entry.Value
		kv.mu.Unlock()
		return send(h, kvStoredCode, &kvStored{put.ID, true}, false)

	case kvListCode:
		var list kvList
		if err := rlp.DecodeBytes(payload, &list); err != nil {
			return err
		}
		if list.Range.Count == 0 || list.Range.Count > kvMaxCount {
			return errors.New("count out of bounds")
		}
		return send(h, kvKeysCode, &kvKeys{list.ID, kv.keys(list.Range)}, false)

	default:
		return kv.answered(h, code, payload)
	}
}

func (kv *kvNode) keys(r kvRange) [][]byte {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	keys := []string{}
	for key := range kv.store {
		if key > string(r.After) {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	if uint64(len(keys)) > r.Count {
		keys = keys[:r.Count]
	}
	out := make([][]byte, len(keys))
	for i, key := range keys {
		out[i] = []byte(key)
	}
	return out
}

// answered reports the answer to one of our requests.
func (kv *kvNode) answered(h *handler, code uint64, payload []byte) error {
	ev := event{"event": "kv_answer", "id": h.id, "code": code}
	var id uint64
	switch code {
	case kvValueCode:
		var value kvValue
		if err := rlp.DecodeBytes(payload, &value); err != nil {
			return err
		}
		id = value.ID
		ev["found"] = len(value.Value) == 1
		ev["value"] = hexList(value.Value)
	case kvStoredCode:
		var stored kvStored
		if err := rlp.DecodeBytes(payload, &stored); err != nil {
			return err
		}
		id = stored.ID
		ev["stored"] = stored.Stored
	case kvKeysCode:
		var keys kvKeys
		if err := rlp.DecodeBytes(payload, &keys); err != nil {
			return err
		}
		id = keys.ID
		ev["keys"] = hexList(keys.Keys)
	default:
		return errors.New("unknown code")
	}
	kv.mu.Lock()
	expected, ok := kv.asked[kvAsked{h, id}]
	delete(kv.asked, kvAsked{h, id})
	kv.mu.Unlock()
	if !ok || expected != code {
		return fmt.Errorf("answer to %d, which was not asked", id)
	}
	emit(ev)
	return nil
}

func hexList(items [][]byte) string {
	digits := make([]string, len(items))
	for i, item := range items {
		digits[i] = hex.EncodeToString(item)
	}
	return strings.Join(digits, ",")
}
