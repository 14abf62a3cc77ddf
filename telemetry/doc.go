// Package telemetry exports what the programs measure: metrics for Prometheus, and
// traces by OTLP. The rest of the code knows neither: it tells what it does to small
// interfaces of its own ([mobileid/activities/ca.Observer], and the observer of
// Identity Manager's store), and package telemetry takes that up.
//
// Metrics have no label that a person, a mobile ID, a process or a certificate could
// give a value to: see docs/metrics.md, which a test compares with what is exported.
//
// Traces hold workflow ids, and so ids of mobile IDs (and of users, with
// get.workflow_id plain): whoever reads traces reads them.
package telemetry
