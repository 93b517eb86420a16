package demo

import (
	"errors"
	"os"
	"testing"
)

// needSDK skips a test that needs the official Node SDK, or fails it when
// KITH_TEST_NEED=all asks for that.
func needSDK(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errNoSDK) || os.Getenv("KITH_TEST_NEED") == "all" {
		t.Fatal(err)
	}
	t.Skipf("%s needs Node and the packages of demo/node (run npm ci there)", t.Name())
}
