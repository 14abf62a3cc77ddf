package config

import (
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

// Temporal returns how to reach Temporal, as the temporal program reads it: the
// TEMPORAL_* variables over the profile TEMPORAL_PROFILE in the TOML file
// TEMPORAL_CONFIG_FILE. One set of variables serves our programs and operators.
//
// Messages are not compressed, which is the SDK's default: those of a lock are
// small, and gzip takes a seventh of the worker's processor time (make bench).
func Temporal() (client.Options, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{})
	if err != nil {
		return client.Options{}, fmt.Errorf("read how to reach Temporal (TEMPORAL_* variables): %w", err)
	}
	if options.HostPort == "" {
		options.HostPort = client.DefaultHostPort
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	return options, nil
}
