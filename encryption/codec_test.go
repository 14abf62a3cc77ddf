package encryption_test

import (
	"maps"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"mobileid/encryption"
)

// newKeyset makes a keyset file and opens it.
func newKeyset(t *testing.T) (keyset *encryption.Keyset, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "keyset.json")
	_, err := encryption.Create(file)
	require.NoError(t, err)
	keyset, err = encryption.Open(file, func(err error) { t.Errorf("fault: %v", err) })
	require.NoError(t, err)
	keyset.LookAlways()
	return keyset, file
}

func payload(t *testing.T, value any) *commonpb.Payload {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayload(value)
	require.NoError(t, err)
	return p
}

func encode(t *testing.T, codec converter.PayloadCodec, plain *commonpb.Payload) *commonpb.Payload {
	t.Helper()
	encoded, err := codec.Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)
	require.Len(t, encoded, 1)
	return encoded[0]
}

func requireDecodes(t *testing.T, codec converter.PayloadCodec, encoded, want *commonpb.Payload) {
	t.Helper()
	decoded, err := codec.Decode([]*commonpb.Payload{encoded})
	require.NoError(t, err)
	require.Len(t, decoded, 1)
	require.True(t, proto.Equal(want, decoded[0]), decoded[0])
}

func keyID(p *commonpb.Payload) string { return string(p.GetMetadata()[encryption.MetadataKeyID]) }

func TestEncodeAndDecode(t *testing.T) {
	keyset, file := newKeyset(t)
	keys, err := encryption.List(file)
	require.NoError(t, err)
	for name, plain := range map[string]*commonpb.Payload{
		"an object":   payload(t, map[string]string{"userId": "anna"}),
		"nothing":     payload(t, nil),
		"bytes":       payload(t, []byte("anna")),
		"empty":       {},
		"other words": {Metadata: map[string][]byte{"encoding": []byte("json/plain"), "name": []byte("anna")}, Data: []byte(`"anna"`)},
	} {
		t.Run(name, func(t *testing.T) {
			before := proto.Clone(plain)
			encoded := encode(t, keyset, plain)
			require.True(t, proto.Equal(before, plain), "what is encoded is not touched")
			require.Equal(t, encryption.MetadataEncoding, string(encoded.GetMetadata()[converter.MetadataEncoding]))
			require.Equal(t, strconv.FormatUint(uint64(keys[0].ID), 10), keyID(encoded))
			wire, err := proto.Marshal(encoded)
			require.NoError(t, err)
			require.NotContains(t, string(wire), "anna")
			requireDecodes(t, keyset, encoded, plain)
			require.NotEqual(t, encoded.GetData(), encode(t, keyset, plain).GetData(), "a nonce is used once")
		})
	}
}

func TestPlainPasses(t *testing.T) {
	keyset, _ := newKeyset(t)
	for name, plain := range map[string]*commonpb.Payload{
		"json":          payload(t, "anna"),
		"nil":           payload(t, nil),
		"no metadata":   {Data: []byte("x")},
		"another's":     {Metadata: map[string][]byte{"encoding": []byte("binary/zlib")}, Data: []byte("x")},
		"no such thing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			decoded, err := keyset.Decode([]*commonpb.Payload{plain})
			require.NoError(t, err)
			require.Same(t, plain, decoded[0])
		})
	}
}

// What is not as it was encrypted is refused, with an error that tells which it is.
func TestDecodeRefuses(t *testing.T) {
	keyset, file := newKeyset(t)
	second, err := encryption.Add(file)
	require.NoError(t, err)
	secondID := strconv.FormatUint(uint64(second.ID), 10)
	plain := payload(t, "anna")
	other := encode(t, keyset, payload(t, "bert"))

	altered := func(err error) bool { return isA[*encryption.AlteredError](err) }
	malformed := func(err error) bool { return isA[*encryption.MalformedError](err) }
	missing := func(err error) bool { return isA[*encryption.KeyMissingError](err) }
	for name, test := range map[string]struct {
		change func(p *commonpb.Payload)
		is     func(error) bool
		says   string
	}{
		"a bit of the data":      {func(p *commonpb.Payload) { p.Data[len(p.Data)/2] ^= 1 }, altered, "altered"},
		"a bit of the end":       {func(p *commonpb.Payload) { p.Data[len(p.Data)-1] ^= 0x80 }, altered, "altered"},
		"cut off":                {func(p *commonpb.Payload) { p.Data = p.Data[:len(p.Data)-1] }, altered, "altered"},
		"no data":                {func(p *commonpb.Payload) { p.Data = nil }, altered, "altered"},
		"other words beside it":  {func(p *commonpb.Payload) { p.Metadata["name"] = []byte("x") }, altered, "altered"},
		"another key beside it":  {func(p *commonpb.Payload) { p.Metadata[encryption.MetadataKeyID] = []byte(secondID) }, altered, "key " + secondID},
		"the id in another form": {func(p *commonpb.Payload) { p.Metadata[encryption.MetadataKeyID] = append([]byte("0"), keyID(p)...) }, altered, "altered"},
		"another's data and words": {func(p *commonpb.Payload) {
			p.Data, p.Metadata["name"] = other.GetData(), []byte("x")
		}, altered, "altered"},
		"no key id":              {func(p *commonpb.Payload) { delete(p.Metadata, encryption.MetadataKeyID) }, malformed, encryption.MetadataKeyID},
		"a name for a key id":    {func(p *commonpb.Payload) { p.Metadata[encryption.MetadataKeyID] = []byte("test") }, malformed, encryption.MetadataKeyID},
		"a negative key id":      {func(p *commonpb.Payload) { p.Metadata[encryption.MetadataKeyID] = []byte("-1") }, malformed, encryption.MetadataKeyID},
		"a key id that is large": {func(p *commonpb.Payload) { p.Metadata[encryption.MetadataKeyID] = []byte("4294967296") }, malformed, encryption.MetadataKeyID},
		"an unknown key":         {func(p *commonpb.Payload) { p.Metadata[encryption.MetadataKeyID] = []byte("0") }, missing, "key 0, which keyset file " + file},
	} {
		t.Run(name, func(t *testing.T) {
			encoded := encode(t, keyset, plain)
			encoded.Metadata = maps.Clone(encoded.GetMetadata())
			requireDecodes(t, keyset, encoded, plain)
			test.change(encoded)
			_, err := keyset.Decode([]*commonpb.Payload{payload(t, "plain"), encoded})
			require.Error(t, err)
			require.True(t, test.is(err), "%T %v", err, err)
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "anna")
		})
	}
}

// FuzzDecode: whatever comes, it passes as it is, decodes, or ends with one of the
// three errors, and is not touched.
func FuzzDecode(f *testing.F) {
	file := filepath.Join(f.TempDir(), "keyset.json")
	key, err := encryption.Create(file)
	require.NoError(f, err)
	keyset, err := encryption.Open(file, nil)
	require.NoError(f, err)
	encoded, err := keyset.Encode([]*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"anna"`)}})
	require.NoError(f, err)
	id := strconv.FormatUint(uint64(key.ID), 10)
	f.Add("json/plain", "", []byte(`"x"`))
	f.Add(encryption.MetadataEncoding, id, encoded[0].GetData())
	f.Add(encryption.MetadataEncoding, id, []byte{})
	f.Add(encryption.MetadataEncoding, "", []byte{1})
	f.Fuzz(func(t *testing.T, encoding, id string, data []byte) {
		p := &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encoding)}, Data: data}
		if id != "" {
			p.Metadata[encryption.MetadataKeyID] = []byte(id)
		}
		before := proto.Clone(p)
		decoded, err := keyset.Decode([]*commonpb.Payload{p})
		require.True(t, proto.Equal(before, p))
		switch {
		case encoding != encryption.MetadataEncoding:
			require.NoError(t, err)
			require.Same(t, p, decoded[0])
		case err == nil:
			require.Equal(t, encoded[0].GetData(), data, "nobody else has the key")
		default:
			require.True(t, isA[*encryption.KeyMissingError](err) || isA[*encryption.AlteredError](err) || isA[*encryption.MalformedError](err), "%T %v", err, err)
		}
	})
}
