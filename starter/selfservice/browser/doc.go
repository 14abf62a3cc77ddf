// Package browser tests Self-Service as people meet it: in a real Chromium, on a real
// installation with Temporal's development server, the worker, devca and messaging. It
// holds nothing but tests, so that they alone need a browser.
package browser
