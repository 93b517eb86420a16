package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// Shown is a certificate in use.
type Shown struct {
	Name     string    // one of its names
	NotAfter time.Time // when it stops being valid
}

// config is what all configurations begin as.
func config(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: get}
}

func shown(leaf *x509.Certificate) Shown {
	name := leaf.Subject.CommonName
	if len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0]
	}
	return Shown{Name: name, NotAfter: leaf.NotAfter}
}
