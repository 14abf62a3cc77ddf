package encryption

import (
	"context"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// ForClient makes the clients of these options encrypt and decode, messages and stack
// traces of failures, too. A nil Keyset changes nothing.
func (k *Keyset) ForClient(options *client.Options) { k.apply(options, false) }

// ForWorker is ForClient for the client of a worker. There, a key that is missing
// must not become the answer of a step or a message that nobody hears: it fails the
// workflow task, which Temporal tries again until the keyset file has the key.
// Nothing is lost, and the failed task tells which key it is.
func (k *Keyset) ForWorker(options *client.Options) { k.apply(options, true) }

func (k *Keyset) apply(options *client.Options, worker bool) {
	if k == nil {
		return
	}
	parent := options.DataConverter
	if parent == nil {
		parent = converter.GetDefaultDataConverter()
	}
	data := dataConverter{DataConverter: converter.NewCodecDataConverter(parent, k), blocks: worker}
	options.DataConverter = data
	options.FailureConverter = &failureConverter{
		FailureConverter: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
			DataConverter: data, EncodeCommonAttributes: true,
		}),
		data: data, keyset: k, blocks: worker,
	}
}

// dataConverter stops a workflow task, by a panic, if a key is missing: the SDK hands
// errors to workflow code, drops signals for them, and ends processes whose input is
// not readable. What will never decode is an error there, too.
type dataConverter struct {
	converter.DataConverter
	blocks   bool // in a worker
	workflow bool // in workflow code
}

var _ workflow.ContextAware = dataConverter{}

// WithWorkflowContext implements [workflow.ContextAware].
func (d dataConverter) WithWorkflowContext(workflow.Context) converter.DataConverter {
	d.workflow = d.blocks
	return d
}

// WithContext implements [workflow.ContextAware].
func (d dataConverter) WithContext(context.Context) converter.DataConverter { return d }

// FromPayload implements [converter.DataConverter].
func (d dataConverter) FromPayload(payload *commonpb.Payload, value any) error {
	return d.check(d.DataConverter.FromPayload(payload, value))
}

// FromPayloads implements [converter.DataConverter].
func (d dataConverter) FromPayloads(payloads *commonpb.Payloads, values ...any) error {
	return d.check(d.DataConverter.FromPayloads(payloads, values...))
}

func (d dataConverter) check(err error) error {
	if d.workflow && isKeyMissing(err) {
		panic(err)
	}
	return err
}

func isKeyMissing(err error) bool {
	var missing *KeyMissingError
	return errors.As(err, &missing)
}

// failureConverter adds two things to the SDK's own: that a failure which was plain when
// it came is encrypted when it is handed on, and that one which cannot be decoded says
// why. The SDK's would leave "Encoded failure" as its words.
type failureConverter struct {
	converter.FailureConverter
	data   converter.DataConverter
	keyset *Keyset
	blocks bool // in a worker
}

// ErrorToFailure implements [converter.FailureConverter]. Like the SDK's it panics if
// a failure cannot be encrypted, which stops what it was for.
func (f *failureConverter) ErrorToFailure(err error) *failurepb.Failure {
	failure := clone(f.FailureConverter.ErrorToFailure(err)) // it may be the error's own
	for part := failure; part != nil; part = part.GetCause() {
		if part.GetEncodedAttributes() == nil {
			if err := converter.EncodeCommonFailureAttributes(f.data, part); err != nil {
				panic(err)
			}
		}
		for _, details := range detailsOf(part) {
			if err := f.keyset.encodePlain(details); err != nil {
				panic(err)
			}
		}
	}
	return failure
}

// FailureToError implements [converter.FailureConverter].
func (f *failureConverter) FailureToError(failure *failurepb.Failure) error {
	failure = clone(failure) // the SDK's converter changes it
	for part := failure; part != nil; part = part.GetCause() {
		err := f.decodes(part)
		if err == nil {
			continue
		}
		if f.blocks && isKeyMissing(err) {
			panic(err)
		}
		part.Message = fmt.Sprintf("what it says cannot be decoded: %v", err)
		part.EncodedAttributes = nil
	}
	return f.FailureConverter.FailureToError(failure)
}

// decodes reports why the words or the details of a failure cannot be decoded.
func (f *failureConverter) decodes(failure *failurepb.Failure) error {
	payloads := []*commonpb.Payload{failure.GetEncodedAttributes()}
	for _, details := range detailsOf(failure) {
		payloads = append(payloads, details.GetPayloads()...)
	}
	_, err := f.keyset.Decode(payloads)
	return err
}

// encodePlain encrypts, in place, what is not encrypted yet.
func (k *Keyset) encodePlain(payloads *commonpb.Payloads) error {
	for i, payload := range payloads.GetPayloads() {
		if string(payload.GetMetadata()[converter.MetadataEncoding]) == MetadataEncoding {
			continue
		}
		encoded, err := k.Encode([]*commonpb.Payload{payload})
		if err != nil {
			return err
		}
		payloads.Payloads[i] = encoded[0]
	}
	return nil
}

// detailsOf are the payloads that a failure holds beside its words, its causes' not.
func detailsOf(failure *failurepb.Failure) []*commonpb.Payloads {
	return []*commonpb.Payloads{
		failure.GetApplicationFailureInfo().GetDetails(),
		failure.GetCanceledFailureInfo().GetDetails(),
		failure.GetTimeoutFailureInfo().GetLastHeartbeatDetails(),
		failure.GetResetWorkflowFailureInfo().GetLastHeartbeatDetails(),
	}
}

func clone(failure *failurepb.Failure) *failurepb.Failure {
	copied, _ := proto.Clone(failure).(*failurepb.Failure) // of the same type
	return copied
}
