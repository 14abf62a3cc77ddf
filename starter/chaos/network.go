package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is the connections between the processes, each through a proxy that can
// cut it, delay it, or swallow what it carries.
type network struct {
	server *toxiproxy.ApiServer

	mu    sync.Mutex
	edges map[string]edge
}

// edge is one way. Its address stays the same when it is cut and mended.
type edge struct {
	*toxiproxy.Proxy

	address string
}

func newNetwork() *network {
	return &network{
		server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
		edges:  map[string]edge{},
	}
}

// edge makes the way by which one process reaches an address, and returns where it
// begins. Asked again, it is the same way.
func (n *network) edge(name, upstream string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if made, ok := n.edges[name]; ok {
		return made.address, nil
	}
	proxy := toxiproxy.NewProxy(n.server, name, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		return "", fmt.Errorf("proxy %s: %w", name, err)
	}
	n.edges[name] = edge{Proxy: proxy, address: proxy.Listen}
	return proxy.Listen, nil
}

// names are the edges, in order.
func (n *network) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name := range n.edges {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (n *network) proxy(name string) *toxiproxy.Proxy {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.edges[name].Proxy
}

// address is where the way of that name begins.
func (n *network) address(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.edges[name].address
}

// cut ends all connections of an edge, and refuses new ones until it is mended.
func (n *network) cut(name string) { n.proxy(name).Stop() }

// mend opens a cut edge, at its address of before.
func (n *network) mend(name string) error { return n.proxy(name).Start() }

// The toxics of the proxy, by what they are here.
const (
	delayed  = "latency" // each piece comes later
	halfOpen = "timeout" // connections stand, and nothing comes through
)

// poison adds a toxic to an edge, in one direction or both.
func (n *network) poison(name, kind, direction string, attributes map[string]int) error {
	text, err := json.Marshal(map[string]any{
		"name": kind + "-" + direction, "type": kind, "stream": direction, "toxicity": 1, "attributes": attributes,
	})
	if err != nil {
		return err
	}
	_, err = n.proxy(name).Toxics.AddToxicJson(bytes.NewReader(text))
	return err
}

// cure ends all toxics of an edge. What was swallowed stays lost.
func (n *network) cure(ctx context.Context, name string) { n.proxy(name).Toxics.ResetToxics(ctx) }

// drop ends all connections of an edge, which stays open.
func (n *network) drop(name string) error {
	n.cut(name)
	return n.mend(name)
}

func (n *network) close() {
	for _, name := range n.names() {
		n.proxy(name).Stop()
	}
}
