package messaging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxBody is the longest body of a command or a callback that is read, in bytes.
const MaxBody = 64 << 10

// readJSON reads one JSON value and nothing after it. Fields that the value does
// not have are those of a newer product, and ignored. The error names the field
// and not what it holds, because that may be a secret.
func readJSON(body []byte, into any) error {
	if len(body) > MaxBody {
		return fmt.Errorf("it is longer than %d bytes", MaxBody)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return errors.New("something follows its JSON value")
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %q has the wrong type", clean(wrong.Field))
	}
	return errors.New("it is not JSON of the expected shape")
}
