// Package crlpush takes the CRLs that a CA sends by itself, so that Identity Manager
// learns of revocations that it did not start.
//
// It is what the original has at /ws/certificate/crl?tenantId=..., where a distribution
// rule of Certificate Manager, protocol HTTP and payload CRL, delivers: with a client
// certificate, or with HTTP Basic (doc.nexusgroup.com, "Push CRL from Certificate Manager
// to Identity Manager"). The page says that complete, delta and indirect CRLs are
// supported, and that Identity Manager updates the states of certificates. It does not
// say which method, content type and answer the product uses: so POST and PUT are taken,
// with any content type, in DER or PEM, and every 2xx is meant as taken. None of it was
// run against the product.
//
// Unlike the original it takes no indirect CRL: nothing in one says whom the CA has let
// sign it. See [mobileid/activities/ca.Authorities.ReadPushed] for what is checked.
//
// # What a CRL does
//
//   - A certificate that it lists for good becomes revoked, with the CRL as its proof.
//   - One that is on hold becomes onHold if it is valid. An issued one stays issued: a CA
//     may put a certificate on hold until it is on its phone (revokeOnIssue).
//   - One that is not on hold any more becomes valid again, if a CRL had put it on hold,
//     or says removeFromCRL, and if its mobile ID is active.
//
// Nothing else changes: revoked and expired stay, and so does the state of the mobile ID.
// The original changes states of certificates alone, and nobody has pressed Next. An
// active mobile ID whose certificates are revoked is of no use, and its owner locks it
// to get a new one.
package crlpush
