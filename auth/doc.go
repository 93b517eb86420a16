// Package auth says who may call the APIs.
//
// There are two kinds of token. The admin token, one a server, may do
// everything; it comes from the environment or from a file that is made at the
// first start. Profile tokens, any number a space, read the profiles of that
// space and nothing else; each is shown once, when it is made, and kept as its
// SHA-256 only. Tokens are random with 192 bits, so a fast hash is enough.
//
// The package never logs a token and knows no path of any API. Its keys are in
// keys.go; its file is Name in the data directory (erasure class none).
package auth
