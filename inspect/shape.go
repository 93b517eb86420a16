package inspect

// section is the part of an event that a property lies in. The numbers are
// stored.
type section byte

// The sections.
const (
	inProperties section = 1
	inTraits     section = 2
	inContext    section = 3
)

// jsonType is a type of JSON. The numbers are stored.
type jsonType byte

// The types.
const (
	typeString jsonType = iota
	typeNumber
	typeBoolean
	typeObject
	typeArray
	typeNull
	typeCount
)

// maxSamples is how many sample values are kept of a property.
const maxSamples = 5
