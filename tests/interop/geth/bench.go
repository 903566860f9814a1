//go:build unix

package main

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/rlpx"
)

// workload is what a run of the bench mode was asked for.
type workload struct {
	size, nodes, peers, atOnce int
	warmUp, measured           time.Duration
}

func init() { runBench = bench }

// bench runs one workload and prints its figures as one line of JSON.
func bench(args []string) error {
	workloads := map[string]func(workload) (event, error){
		"stream": stream, "rtt": roundTrips, "handshake": handshakes,
		"idle-memory": idleMemory, "idle-cpu": idleCPU, "broadcast": broadcast,
	}
	if len(args) == 0 || workloads[args[0]] == nil {
		return errors.New("want a workload: stream, rtt, handshake, idle-memory, idle-cpu or broadcast")
	}
	var (
		w       workload
		flags   = flag.NewFlagSet("bench "+args[0], flag.ExitOnError)
		seconds = flags.Float64("seconds", 2, "how long it is measured")
		warmUp  = flags.Float64("warm-up", 0.5, "how long it runs before that")
	)
	flags.IntVar(&w.size, "size", 32, "bytes of payload")
	flags.IntVar(&w.nodes, "nodes", 32, "nodes that are all connected (idle-memory, idle-cpu)")
	flags.IntVar(&w.peers, "peers", 64, "peers to broadcast to")
	flags.IntVar(&w.atOnce, "at-once", 8, "handshakes at a time")
	flags.Parse(args[1:])
	w.warmUp = time.Duration(*warmUp * float64(time.Second))
	w.measured = time.Duration(*seconds * float64(time.Second))

	figures, err := workloads[args[0]](w)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(figures)
}

// stream sends one way as fast as it goes; the receiver counts.
func stream(w workload) (event, error) {
	var received atomic.Uint64
	payload := randomPayload(w.size)
	err := connectTwo(answering(&received), func(p *p2p.Peer, rw p2p.MsgReadWriter) error {
		for {
			if err := sendPayload(rw, perfData, payload); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	count, wall, cpu := w.observe(received.Load)
	return event{
		"messages_per_s": float64(count) / wall,
		"bytes_per_s":    float64(count) * float64(w.size) / wall,
		"cpu_us":         cpu * 1e6 / float64(count),
	}, nil
}

// roundTrips sends a request when the reply to the one before it has come.
func roundTrips(w workload) (event, error) {
	payload := randomPayload(w.size)
	times := make(chan []time.Duration, 1)
	err := connectTwo(answering(new(atomic.Uint64)), func(p *p2p.Peer, rw p2p.MsgReadWriter) error {
		taken := make([]time.Duration, 0, 1<<20)
		begin := time.Now().Add(w.warmUp)
		end := begin.Add(w.measured)
		for now := time.Now(); now.Before(end); {
			start := time.Now()
			if err := sendPayload(rw, perfRequest, payload); err != nil {
				return err
			}
			msg, err := rw.ReadMsg()
			if err != nil {
				return err
			}
			msg.Discard()
			now = time.Now()
			if !start.Before(begin) {
				taken = append(taken, now.Sub(start))
			}
		}
		times <- taken
		return nil
	})
	if err != nil {
		return nil, err
	}
	select {
	case taken := <-times:
		if len(taken) == 0 {
			return nil, errors.New("no round trip began in the window")
		}
		slices.Sort(taken)
		quantile := func(share float64) float64 {
			return float64(taken[int(share*float64(len(taken)-1))].Nanoseconds()) / 1e3
		}
		return event{"count": len(taken), "p50_us": quantile(0.5), "p99_us": quantile(0.99)}, nil
	case <-time.After(w.warmUp + w.measured + 10*time.Second):
		return nil, errors.New("the round trips did not end")
	}
}

// handshakes makes TCP connections with the encryption handshake, both ends in
// this process, several at a time, and closes them. There is no Hello.
func handshakes(w workload) (event, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			fd, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer fd.Close()
				rlpx.NewConn(fd, nil).Handshake(key)
			}()
		}
	}()
	var made atomic.Uint64
	failed := make(chan error, w.atOnce)
	for range w.atOnce {
		go func() {
			own, err := crypto.GenerateKey()
			for err == nil {
				if err = dialOnce(listener.Addr().String(), own, &key.PublicKey); err == nil {
					made.Add(1)
				}
			}
			failed <- err
		}()
	}
	count, wall, cpu := w.observe(made.Load)
	select {
	case err := <-failed:
		return nil, err
	default:
		return event{"per_s": float64(count) / wall, "cpu_us": cpu * 1e6 / float64(count)}, nil
	}
}

func dialOnce(address string, key *ecdsa.PrivateKey, remote *ecdsa.PublicKey) error {
	fd, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer fd.Close()
	// Closed with a reset: thousands a second would use up the ports.
	fd.(*net.TCPConn).SetLinger(0)
	_, err = rlpx.NewConn(fd, remote).Handshake(key)
	return err
}

// idleMemory tells how much the process has grown with its idle peers.
func idleMemory(w workload) (event, error) {
	m, err := startMesh(w.nodes)
	if err != nil {
		return nil, err
	}
	if err := m.connect(2); err != nil {
		return nil, err
	}
	before, few := resident(), m.ends()
	if err := m.connect(w.nodes); err != nil {
		return nil, err
	}
	after, all := resident(), m.ends()
	return event{"ends": all - few, "resident_bytes": max(after-before, 0)}, nil
}

// idleCPU tells what time idle peers use.
func idleCPU(w workload) (event, error) {
	m, err := startMesh(w.nodes)
	if err != nil {
		return nil, err
	}
	if err := m.connect(w.nodes); err != nil {
		return nil, err
	}
	ends := m.ends()
	_, wall, cpu := w.observe(func() uint64 { return 0 })
	if have := m.ends(); have < ends {
		return nil, fmt.Errorf("%d of %d ends are left", have, ends)
	}
	return event{"ends": ends, "cpu_s": cpu, "seconds": wall}, nil
}

// broadcast prints where it listens, waits for its peers, which are another
// process, and sends each of them the same messages: a queue and a goroutine
// for each, as go-ethereum's eth has.
func broadcast(w workload) (event, error) {
	const queue = 64
	payload := randomPayload(w.size)
	queues := make(chan chan []byte, w.peers)
	var sent atomic.Uint64
	srv, err := startServer(3*w.peers, func(p *p2p.Peer, rw p2p.MsgReadWriter) error {
		messages := make(chan []byte, queue)
		queues <- messages
		for message := range messages {
			if err := sendPayload(rw, perfData, message); err != nil {
				return err
			}
			sent.Add(1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	emit(event{"enode": fmt.Sprintf("enode://%s@%s", pubHex(&srv.PrivateKey.PublicKey), srv.ListenAddr)})
	var peers []chan []byte
	for len(peers) < w.peers {
		select {
		case messages := <-queues:
			peers = append(peers, messages)
		case <-time.After(10 * time.Second):
			return nil, fmt.Errorf("%d of %d peers have come", len(peers), w.peers)
		}
	}
	go func() {
		for {
			for _, messages := range peers {
				messages <- payload
			}
		}
	}()
	count, wall, cpu := w.observe(sent.Load)
	total := float64(count) * float64(w.size)
	return event{"bytes_per_s": total / wall, "bytes_per_cpu_s": total / cpu}, nil
}

// observe waits for the warm-up and then for the window. It returns the
// difference of what it reads, and the seconds and CPU seconds that it took.
func (w workload) observe(read func() uint64) (uint64, float64, float64) {
	time.Sleep(w.warmUp)
	begin, cpu, count := time.Now(), cpuSeconds(), read()
	time.Sleep(w.measured)
	return read() - count, time.Since(begin).Seconds(), cpuSeconds() - cpu
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// resident is the resident memory of the process in bytes, with everything
// given back that can be. Each collection halves stacks that have become too
// large, hence several.
func resident() int64 {
	time.Sleep(time.Second)
	for range 4 {
		debug.FreeOSMemory()
	}
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Rss:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}
