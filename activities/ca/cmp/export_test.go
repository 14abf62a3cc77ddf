package cmp

import (
	"math/big"

	"mobileid/activities/ca"
)

// Read does to an answer what Revoke does, as if it were the one to a request and
// protected by the CA: what fuzzing cannot make. verified is its protected part, if the
// protection really is good.
func (d *Driver) Read(der []byte, serial *big.Int) (result ca.Answer, verified []byte, err error) {
	said, err := readAnswer(der)
	if err != nil {
		return ca.Answer{}, nil, err
	}
	if said.protected() && d.trust.verify(said) == nil {
		verified = said.part()
	}
	result, err = revocation("fuzz", said, serial)
	return result, verified, err
}
