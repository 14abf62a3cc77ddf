package encryption_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"mobileid/encryption"
)

// clientOptions are a client's and a worker's, under keysets that are the same until
// a test changes one.
func clientOptions(t *testing.T) (sender, receiver client.Options, worker client.Options, senderFile string) {
	t.Helper()
	keyset, file := newKeyset(t)
	receiverFile := filepath.Join(t.TempDir(), "receiver.json")
	copyFile(t, file, receiverFile)
	received, err := encryption.Open(receiverFile, nil)
	require.NoError(t, err)
	keyset.ForClient(&sender)
	received.ForClient(&receiver)
	received.ForWorker(&worker)
	return sender, receiver, worker, file
}

func rotate(t *testing.T, file string) {
	t.Helper()
	added, err := encryption.Add(file)
	require.NoError(t, err)
	require.NoError(t, encryption.Promote(file, added.ID))
}

func TestNilKeysetChangesNothing(t *testing.T) {
	var keyset *encryption.Keyset
	var options client.Options
	keyset.ForClient(&options)
	keyset.ForWorker(&options)
	require.Nil(t, options.DataConverter)
	require.Nil(t, options.FailureConverter)
}

// What failures say and where they happened is encrypted, of their causes, too.
func TestFailuresAreEncrypted(t *testing.T) {
	sender, receiver, worker, _ := clientOptions(t)
	panicked := temporal.GetDefaultFailureConverter().FailureToError(&failurepb.Failure{
		Message: "panic of anna", StackTrace: "main.go: anna",
		FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "PanicError"}},
	})
	var isPanic *temporal.PanicError
	require.ErrorAs(t, panicked, &isPanic)
	for name, failed := range map[string]error{
		"a refusal":    temporal.NewNonRetryableApplicationError("no mobile ID of anna", "MobileIDNotFound", errors.New("row of anna"), "detail of anna"),
		"an error":     errors.New("anna"),
		"cancelled":    temporal.NewCanceledError("anna"),
		"with a trace": panicked,
		"plain when it came": temporal.GetDefaultFailureConverter().FailureToError(temporal.GetDefaultFailureConverter().ErrorToFailure(
			temporal.NewApplicationError("anna", "T", "detail of anna"))),
	} {
		t.Run(name, func(t *testing.T) {
			failure := sender.FailureConverter.ErrorToFailure(failed)
			wire, err := proto.Marshal(failure)
			require.NoError(t, err)
			require.NotContains(t, string(wire), "anna")
			for side, options := range map[string]client.Options{"client": receiver, "worker": worker} {
				again := options.FailureConverter.FailureToError(failure)
				if name == "cancelled" {
					var canceled *temporal.CanceledError
					require.ErrorAs(t, again, &canceled, side)
					var detail string
					require.NoError(t, canceled.Details(&detail))
					require.Equal(t, "anna", detail)
					continue
				}
				require.ErrorContains(t, again, "anna", side)
			}
			if name == "with a trace" {
				var trace *temporal.PanicError
				require.ErrorAs(t, receiver.FailureConverter.FailureToError(failure), &trace)
				require.Equal(t, "main.go: anna", trace.StackTrace())
			}
			if name == "a refusal" {
				var application *temporal.ApplicationError
				require.ErrorAs(t, receiver.FailureConverter.FailureToError(failure), &application)
				require.Equal(t, "MobileIDNotFound", application.Type())
				require.True(t, application.NonRetryable())
				require.Equal(t, "no mobile ID of anna", application.Message())
				require.ErrorContains(t, application.Unwrap(), "row of anna")
			}
		})
	}
	require.NoError(t, sender.FailureConverter.FailureToError(nil))
}

// Failures from before are read as they are.
func TestPlainFailuresPass(t *testing.T) {
	_, receiver, worker, _ := clientOptions(t)
	plain := temporal.GetDefaultFailureConverter().ErrorToFailure(temporal.NewApplicationError("as it was", "Old", "detail"))
	for _, options := range []client.Options{receiver, worker} {
		var application *temporal.ApplicationError
		require.ErrorAs(t, options.FailureConverter.FailureToError(plain), &application)
		require.Equal(t, "as it was", application.Message())
		var detail string
		require.NoError(t, application.Details(&detail))
		require.Equal(t, "detail", detail)
	}
}

// A missing key is an error for clients and activities, and stops workflow code:
// there an error would be taken for the answer.
func TestMissingKey(t *testing.T) {
	sender, receiver, worker, file := clientOptions(t)
	rotate(t, file)
	// The sender looks again by itself.
	payloads, err := sender.DataConverter.ToPayloads("anna")
	require.NoError(t, err)
	single, err := sender.DataConverter.ToPayload("anna")
	require.NoError(t, err)
	failure := sender.FailureConverter.ErrorToFailure(temporal.NewApplicationError("anna", "T", "detail"))

	aware := func(options client.Options) workflow.ContextAware {
		a, ok := options.DataConverter.(workflow.ContextAware)
		require.True(t, ok)
		return a
	}
	var text string
	for name, data := range map[string]converter.DataConverter{
		"client":            receiver.DataConverter,
		"client's workflow": aware(receiver).WithWorkflowContext(nil),
		"worker":            worker.DataConverter,
		"activity":          aware(worker).WithContext(context.Background()),
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, isA[*encryption.KeyMissingError](data.FromPayloads(payloads, &text)))
			require.True(t, isA[*encryption.KeyMissingError](data.FromPayload(single, &text)))
		})
	}
	inWorkflow := aware(worker).WithWorkflowContext(nil)
	require.Panics(t, func() { _ = inWorkflow.FromPayloads(payloads, &text) })
	require.Panics(t, func() { _ = inWorkflow.FromPayload(single, &text) })
	require.Panics(t, func() { _ = worker.FailureConverter.FailureToError(failure) })
	told := receiver.FailureConverter.FailureToError(failure)
	require.ErrorContains(t, told, "cannot be decoded")
	require.ErrorContains(t, told, "receiver.json")

	// What will never decode does not stop a workflow for ever.
	single.Data[0] ^= 1
	spoilt := &commonpb.Payloads{Payloads: []*commonpb.Payload{encodedUnderOld(t, worker)}}
	spoilt.Payloads[0].Data[9] ^= 1
	require.True(t, isA[*encryption.AlteredError](inWorkflow.FromPayloads(spoilt, &text)))
	require.Empty(t, text)
}

func encodedUnderOld(t *testing.T, options client.Options) *commonpb.Payload {
	t.Helper()
	p, err := options.DataConverter.ToPayload("anna")
	require.NoError(t, err)
	return p
}
