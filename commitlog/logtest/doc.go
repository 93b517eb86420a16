// Package logtest holds every log to the contract of package commitlog. Run is
// the suite that each driver's tests call.
package logtest
