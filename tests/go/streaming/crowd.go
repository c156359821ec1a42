package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/tools/remotecommand"
)

// crowd runs a session for each URL of its input, all at once. Whatever is said
// in one must come back in it, and nothing else.
func crowd(arguments []string) error {
	var wire transport
	set := flag.NewFlagSet("crowd", flag.ExitOnError)
	wire.flags(set)
	size := set.Int64("bytes", 64<<10, "to be said in each session")
	stall := set.Duration("stall", 0, "how long a reader pauses at most, some ten times on its way")
	_ = set.Parse(arguments)
	var (
		group    sync.WaitGroup
		lock     sync.Mutex
		failures []error
		sessions int
	)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		target, err := url.Parse(lines.Text())
		if err != nil {
			return err
		}
		sessions++
		group.Add(1)
		go func(seed int) {
			defer group.Done()
			if err := repeat(&wire, target, *size, *stall, seed); err != nil {
				lock.Lock()
				failures = append(failures, fmt.Errorf("session %d: %w", seed, err))
				lock.Unlock()
			}
		}(sessions)
	}
	group.Wait()
	fmt.Printf("%d of %d sessions went well\n", sessions-len(failures), sessions)
	return errors.Join(failures...)
}

func repeat(wire *transport, target *url.URL, size int64, stall time.Duration, seed int) error {
	executor, err := wire.executor(target)
	if err != nil {
		return err
	}
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	said, heard := sha256.New(), &listener{sum: sha256.New(), every: max(size/10, 1), stall: stall}
	random := io.LimitReader(rand.NewChaCha8(key), size)
	options := remotecommand.StreamOptions{Stdin: io.TeeReader(random, said), Stdout: heard}
	if err := executor.StreamWithContext(context.Background(), options); err != nil {
		return err
	}
	if heard.count != size {
		return fmt.Errorf("%d of %d bytes came back", heard.count, size)
	}
	if string(said.Sum(nil)) != string(heard.sum.Sum(nil)) {
		return errors.New("something else came back")
	}
	return nil
}

// listener sums up what it hears, and sometimes does not listen.
type listener struct {
	sum   hash.Hash
	count int64
	every int64
	stall time.Duration
}

func (l *listener) Write(bytes []byte) (int, error) {
	before := l.count / l.every
	l.count += int64(len(bytes))
	if l.stall > 0 && l.count/l.every > before {
		time.Sleep(rand.N(l.stall))
	}
	return l.sum.Write(bytes)
}
