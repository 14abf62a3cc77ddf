package config

import (
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

// Temporal returns how to reach Temporal, as the temporal program reads it: the
// TEMPORAL_* variables over the profile TEMPORAL_PROFILE in the TOML file
// TEMPORAL_CONFIG_FILE. One set of variables serves our programs and operators.
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
	return options, nil
}
