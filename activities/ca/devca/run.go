package devca

import (
	"context"
	"errors"
	"net"
)

// RunOptions say what [Run] runs.
type RunOptions struct {
	Dir string // the folder of the CA
	// PublicAddress and APIAddress are "host:port". Port 0 means the port of the
	// last run if it is free, or else any. Default 127.0.0.1:0.
	PublicAddress string
	APIAddress    string
	Server        Options // its PublicURL follows from PublicAddress if it is empty
}

// Run opens the CA of a folder and serves it until ctx ends, which is no error.
// Where it serves stands in the folder ([ReadAddresses]) before ready is called.
func Run(ctx context.Context, options RunOptions, ready func(Addresses)) (err error) {
	last, _ := ReadAddresses(options.Dir) // none at first start
	public, err := listen(options.PublicAddress, last.PublicURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closed(public)) }()
	api, err := listen(options.APIAddress, last.APIURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closed(api)) }()

	addresses := Addresses{
		PublicURL: urlOf("http", public, options.PublicAddress),
		APIURL:    urlOf("https", api, options.APIAddress),
	}
	if options.Server.PublicURL == "" {
		options.Server.PublicURL = addresses.PublicURL
	}
	if host, _, malformed := net.SplitHostPort(options.APIAddress); malformed == nil && host != "" {
		options.Server.ServerNames = append([]string{host}, options.Server.ServerNames...)
	}
	server, err := Open(options.Dir, options.Server) //nolint:contextcheck // the server ends with Close, after the last request
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := server.folder.writeAddresses(addresses); err != nil {
		return err
	}
	if ready != nil {
		// The listeners take connections already.
		ready(addresses)
	}
	return server.Serve(ctx, public, api)
}

// closed closes a listener that Serve may have closed before.
func closed(listener net.Listener) error {
	if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
