package encryption

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

const (
	// MetadataEncoding is the encoding of an encrypted payload.
	MetadataEncoding = "binary/encrypted"

	// MetadataKeyID names the metadata with the id of the key, in decimal.
	MetadataKeyID = "encryption-key-id"

	// associatedDataPrefix keeps what is encrypted here from being taken for
	// something else that is encrypted under the same key.
	associatedDataPrefix = "mobileid/payload/1"
)

var _ converter.PayloadCodec = (*Keyset)(nil)

// Encode implements [converter.PayloadCodec]: each payload, with its metadata, is
// encrypted under the primary key.
func (k *Keyset) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	keys := k.current()
	encoded := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		plain, err := proto.Marshal(payload)
		if err != nil {
			return nil, fmt.Errorf("encrypt payload: %w", err)
		}
		metadata := map[string][]byte{
			converter.MetadataEncoding: []byte(MetadataEncoding),
			MetadataKeyID:              []byte(strconv.FormatUint(uint64(keys.primary), 10)),
		}
		data, err := keys.aead.Encrypt(plain, associatedData(metadata))
		if err != nil {
			return nil, fmt.Errorf("encrypt payload: %w", err)
		}
		encoded[i] = &commonpb.Payload{Metadata: metadata, Data: data}
	}
	return encoded, nil
}

// Decode implements [converter.PayloadCodec]: what is encrypted is decrypted under
// whichever key of the keyset, and all else passes as it is. Its errors are a
// *KeyMissingError, *AlteredError or *MalformedError.
func (k *Keyset) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	decoded := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		if string(payload.GetMetadata()[converter.MetadataEncoding]) != MetadataEncoding {
			decoded[i] = payload
			continue
		}
		plain, err := k.decrypt(payload)
		if err != nil {
			return nil, err
		}
		decoded[i] = plain
	}
	return decoded, nil
}

func (k *Keyset) decrypt(payload *commonpb.Payload) (*commonpb.Payload, error) {
	text, named := payload.GetMetadata()[MetadataKeyID]
	if !named {
		return nil, &MalformedError{Problem: "it has no metadata " + MetadataKeyID}
	}
	id, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return nil, &MalformedError{Problem: "its metadata " + MetadataKeyID + " is no key id"}
	}
	keyID := uint32(id)
	keys := k.current()
	if !keys.enabled[keyID] {
		// Perhaps it was added a moment ago.
		keys = k.reread()
	}
	if !keys.enabled[keyID] {
		return nil, &KeyMissingError{KeyID: keyID, File: k.file}
	}
	plain, err := keys.aead.Decrypt(payload.GetData(), associatedData(payload.GetMetadata()))
	if err != nil {
		return nil, &AlteredError{KeyID: keyID}
	}
	decoded := &commonpb.Payload{}
	if err := proto.Unmarshal(plain, decoded); err != nil {
		return nil, &MalformedError{Problem: "what it holds is no payload"}
	}
	return decoded, nil
}

// associatedData binds all metadata of an encrypted payload to it, each name and
// value with its length, so that no two maps have the same bytes.
func associatedData(metadata map[string][]byte) []byte {
	data := []byte(associatedDataPrefix)
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		for _, part := range [][]byte{[]byte(name), metadata[name]} {
			data = binary.AppendUvarint(data, uint64(len(part)))
			data = append(data, part...)
		}
	}
	return data
}
