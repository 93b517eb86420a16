package server

import (
	"kith/auth"
	"kith/certificate"
	"kith/secret"
)

// The files and folders of a data directory; docs/keys.md lists each.
const (
	fileFormat     = "format"              // the number of the format of all this
	fileStore      = "store"               // the embedded store
	fileAdminToken = auth.Name             // mode 0600
	fileSecretKey  = secret.Name           // mode 0600
	fileTLSDev     = certificate.LocalName // the local authority and its certificate; the keys have mode 0600
	fileACME       = "acme"                // the accounts and certificates of ACME; mode 0600
	fileImports    = "imports"             // files of imports: uploads until they are read, reports; mode 0600
)
