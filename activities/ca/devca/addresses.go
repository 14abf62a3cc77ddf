package devca

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
)

// Addresses are where [Run] serves.
type Addresses struct {
	PublicURL string `json:"publicUrl"` // http, without a slash at its end
	APIURL    string `json:"apiUrl"`    // https, likewise
}

// ReadAddresses reads where the CA of a folder serves, or served last.
func ReadAddresses(dir string) (Addresses, error) {
	path := folder(dir).path(AddressesFile)
	text, err := os.ReadFile(path) //nolint:gosec // the folder is the caller's choice
	if err != nil {
		return Addresses{}, err
	}
	var addresses Addresses
	if err := json.Unmarshal(text, &addresses); err != nil {
		return Addresses{}, fmt.Errorf("read %s: %w", path, err)
	}
	return addresses, nil
}

func (f folder) writeAddresses(addresses Addresses) error {
	text, err := json.MarshalIndent(addresses, "", "  ")
	if err != nil {
		return err
	}
	return f.write(AddressesFile, append(text, '\n'), 0o644)
}

// listen listens at address, "host:port". With port 0 it first tries the port of
// the URL that was used last, because that URL stands in certificates.
func listen(address, lastURL string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen at %q: %w", address, err)
	}
	if last, err := url.Parse(lastURL); err == nil && port == "0" && last.Port() != "" {
		if listener, err := net.Listen("tcp", net.JoinHostPort(host, last.Port())); err == nil {
			return listener, nil
		}
	}
	return net.Listen("tcp", address)
}

// urlOf is how programs of this machine reach a listener.
func urlOf(scheme string, listener net.Listener, address string) string {
	tcp, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return scheme + "://" + listener.Addr().String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "localhost"
	} else if name, _, err := net.SplitHostPort(address); err == nil && name != "" {
		host = name
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
