package cmp_test

import (
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp/cmptest"
)

// appended returns the message with an element put at the end of the one that the path
// leads to, by the positions of its children.
func appended(t *testing.T, der []byte, path []int, element []byte) []byte {
	t.Helper()
	var value asn1.RawValue
	rest, err := asn1.Unmarshal(der, &value)
	require.NoError(t, err)
	require.Empty(t, rest)
	var content []byte
	if len(path) == 0 {
		content = append(content, value.Bytes...)
		content = append(content, element...)
	}
	for n, left := 0, value.Bytes; len(path) > 0 && len(left) > 0; n++ {
		var child asn1.RawValue
		left, err = asn1.Unmarshal(left, &child)
		require.NoError(t, err)
		if n == path[0] {
			child.FullBytes = appended(t, child.FullBytes, path[1:], element)
		}
		content = append(content, child.FullBytes...)
	}
	out, err := asn1.Marshal(asn1.RawValue{Class: value.Class, Tag: value.Tag, IsCompound: value.IsCompound, Bytes: content})
	require.NoError(t, err)
	return out
}

// Nothing may stand in an answer that is not known, wherever that is: it would be
// protected, and mean who knows what.
func TestNothingElseStandsInIt(t *testing.T) {
	fake := cmptest.Start(t, someName)
	d := newDriver(t, fake.Driver(fake.Officer))
	var sent []byte
	record := func(change func(*cmptest.Answer)) []byte {
		fake.Change = func(a *cmptest.Answer) {
			change(a)
			a.Finish = func(der []byte) []byte { sent = der; return der }
		}
		_, _ = d.Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{Serial: fuzzSerial})), "")
		_, verified, err := d.Read(sent, fuzzSerial)
		require.NoError(t, err)
		require.NotNil(t, verified)
		return sent
	}
	granted := record(func(a *cmptest.Answer) { a.Statuses[0].Words = []string{"x"} })
	waits := record(func(a *cmptest.Answer) {
		errorMessage(3)(a)
		a.ErrorCode, a.ErrorDetails = 1, []string{"x"}
	})
	refused := record(status(2, 10))
	for _, row := range []struct {
		name string
		sent []byte
		path []int
	}{
		{"PKIMessage", granted, nil},
		{"PKIHeader", granted, []int{0}},
		{"messageTime", granted, []int{0, 3}},
		{"protectionAlg", granted, []int{0, 4}},
		{"transactionID", granted, []int{0, 6}},
		{"PKIBody", granted, []int{1}},
		{"RevRepContent", granted, []int{1, 0}},
		{"statuses", granted, []int{1, 0, 0}},
		{"PKIStatusInfo", granted, []int{1, 0, 0, 0}},
		{"PKIStatusInfo with failInfo", refused, []int{1, 0, 0, 0}},
		{"statusString", granted, []int{1, 0, 0, 0, 1}},
		{"revCerts", granted, []int{1, 0, 1}},
		{"list of revCerts", granted, []int{1, 0, 1, 0}},
		{"CertId", granted, []int{1, 0, 1, 0, 0}},
		{"protection", granted, []int{2}},
		{"extraCerts", granted, []int{3}},
		{"body of an error", waits, []int{1}},
		{"ErrorMsgContent", waits, []int{1, 0}},
		{"status of an error", waits, []int{1, 0, 0}},
		{"errorDetails", waits, []int{1, 0, 2}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := d.Read(appended(t, row.sent, row.path, []byte{0x89, 1, 0}), fuzzSerial) // [9], which nothing has
			require.Error(t, err)
		})
	}
}
