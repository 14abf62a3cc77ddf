package activities

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"mobileid"
	"mobileid/activities/ca"
)

// IssueAtCA has a certificate issued for each key. A key gets one certificate,
// however often this is tried. What the CA refuses ends the Get.
func (a *Activities) IssueAtCA(ctx context.Context, in IssueInput) (*IssueResult, error) {
	defer heartbeat(ctx, nothing)()
	authority, err := a.issuing(in.CA.Name)
	if err != nil {
		return nil, translate(err)
	}
	result := &IssueResult{Chain: [][]byte{authority.Issuer.Raw}}
	for _, key := range in.Keys {
		csr, err := x509.ParseCertificateRequest(key.CSR)
		if err != nil {
			return nil, translate(failure(mobileid.FailureBadRequest, err))
		}
		at := slices.IndexFunc(in.Policies, func(p KeyPolicy) bool { return p.ID == key.ID })
		if at < 0 {
			return nil, translate(failure(mobileid.FailureBadRequest, fmt.Errorf("no certificate is meant for key %s", key.ID)))
		}
		issued, err := authority.IssueOnce(ctx, ca.IssueRequest{CSR: csr, Procedure: in.Policies[at].Procedure, NotAfter: in.NotAfter})
		if err != nil {
			return nil, translate(caFailure(err))
		}
		result.Certificates = append(result.Certificates, IssuedCertificate{KeyID: key.ID, Certificate: issued})
	}
	return result, nil
}

// FindIssued finds what a CA issued for the keys, whoever lost the answer.
func (a *Activities) FindIssued(ctx context.Context, in IssueInput) (*IssueResult, error) {
	defer heartbeat(ctx, nothing)()
	authority, err := a.issuing(in.CA.Name)
	if err != nil {
		return nil, translate(err)
	}
	result := &IssueResult{}
	for _, key := range in.Keys {
		csr, err := x509.ParseCertificateRequest(key.CSR)
		if err != nil {
			continue // nothing can have been issued for what is no request
		}
		found, err := authority.Issued(ctx, csr)
		if err != nil {
			return nil, translate(err)
		}
		for _, c := range found {
			result.Certificates = append(result.Certificates, IssuedCertificate{KeyID: key.ID, Certificate: c})
		}
	}
	return result, nil
}

func (a *Activities) issuing(name string) (*ca.Authority, error) {
	authority, ok := a.CAs.ByName(name)
	if !ok || !authority.Issues() {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: "issue at " + name, Words: "this worker has no driver that issues there"}
	}
	return authority, nil
}

// caFailure sorts an error of a CA that issues: a person waits with a phone in hand,
// so what a retry cannot cure ends the Get instead of waiting for an operator.
func caFailure(err error) error {
	if ca.Curable(err) {
		return err
	}
	return failure(mobileid.FailureCARefused, err)
}
