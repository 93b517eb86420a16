package server

import (
	"kith/fql"
)

// checkTrigger refuses a trigger that cannot be read.
func checkTrigger(text string) error {
	_, err := fql.ParseTrigger(text)
	return err
}
