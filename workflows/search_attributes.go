package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Search attributes of a lock, and of a Get. All are optional by configuration, because an
// unregistered one would block the process.
var (
	AttributeMobileID    = temporal.NewSearchAttributeKeyKeyword("MobileId")
	AttributeUser        = temporal.NewSearchAttributeKeyKeyword("MobileIdUser")
	AttributePhase       = temporal.NewSearchAttributeKeyKeyword("LockPhase")
	AttributeOutcome     = temporal.NewSearchAttributeKeyKeyword("LockOutcome")
	AttributeRequestedAt = temporal.NewSearchAttributeKeyTime("LockRequestedAt")
	AttributeGetPhase    = temporal.NewSearchAttributeKeyKeyword("GetPhase")
	AttributeGetOutcome  = temporal.NewSearchAttributeKeyKeyword("GetOutcome")
)

// searchAttributes are the types of all search attributes, by name.
func searchAttributes() map[string]enumspb.IndexedValueType {
	types := map[string]enumspb.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKey{
		AttributeMobileID, AttributeUser, AttributePhase, AttributeOutcome, AttributeRequestedAt, AttributeGetPhase, AttributeGetOutcome,
	} {
		types[key.GetName()] = key.GetValueType()
	}
	return types
}

// MissingSearchAttributes names, in order, the search attributes that are not
// registered in a namespace, and those that are under another type.
func MissingSearchAttributes(ctx context.Context, c client.Client, namespace string) ([]string, error) {
	registered, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("list search attributes of namespace %s: %w", namespace, err)
	}
	var missing []string
	for name, want := range searchAttributes() {
		if got, ok := registered.GetCustomAttributes()[name]; !ok || got != want {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// RegisterSearchAttributes registers what is missing, and returns the names of
// that. Registering twice changes nothing.
func RegisterSearchAttributes(ctx context.Context, c client.Client, namespace string) ([]string, error) {
	missing, err := MissingSearchAttributes(ctx, c, namespace)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	types := map[string]enumspb.IndexedValueType{}
	for _, name := range missing {
		types[name] = searchAttributes()[name]
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: types})
	var exists *serviceerror.AlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return nil, fmt.Errorf("register search attributes %s in namespace %s: %w", strings.Join(missing, ", "), namespace, err)
	}
	return missing, nil
}
