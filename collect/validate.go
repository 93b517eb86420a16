package collect

import (
	"fmt"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/event"
)

// consentEvent is held to rules of its own (sheet connections_protocols §2.8).
const consentEvent = "Segment Consent Preference Updated"

// validate finds out what call it is and what is wrong with it. Missing, null
// and empty are the same: SDKs send all three.
func (in *intake) validate(k *call) *refusal {
	if k.kind = in.route.single; !blank(k.typ) {
		k.kind = event.ParseType(str(k.typ))
	}
	if k.kind == event.None {
		if blank(k.typ) {
			return &refusal{CodeUnknownType, "an event of a batch needs a type: track, identify, page, screen, group or alias", "type"}
		}
		return &refusal{CodeUnknownType, fmt.Sprintf("there is no call %s: want track, identify, page, screen, group or alias", head(k.typ.Raw, 40)), "type"}
	}
	if r := in.validateMessageID(k); r != nil {
		return r
	}
	for _, id := range []struct {
		value gjson.Result
		field string
	}{{k.userID, "userId"}, {k.anonymousID, "anonymousId"}, {k.previousID, "previousId"}, {k.groupID, "groupId"}} {
		if !blank(id.value) && id.value.Type != gjson.String {
			return &refusal{CodeIDNotString, fmt.Sprintf("%s must be a string; send it in quotes", id.field), id.field}
		}
	}
	if blank(k.userID) && blank(k.anonymousID) && !in.route.inside {
		return &refusal{CodeNoUserAnonID, "an event needs a userId or an anonymousId", "userId"}
	}
	if r := validateDocuments(k); r != nil {
		return r
	}
	switch k.kind {
	case event.Track:
		switch {
		case blank(k.event):
			return &refusal{CodeEventNotDefined, "a track call needs the name of its event", "event"}
		case k.event.Type != gjson.String:
			return &refusal{CodeEventNotString, "the name of an event must be a string", "event"}
		case k.event.Str == consentEvent:
			return validateConsent(k)
		}
	case event.Page, event.Screen:
		switch {
		case !blank(k.name) && k.name.Type != gjson.String:
			return &refusal{CodeNameNotString, "the name of a page or screen must be a string", "name"}
		case !blank(k.category) && k.category.Type != gjson.String:
			return &refusal{CodeCategoryNotStr, "the category of a page or screen must be a string", "category"}
		}
	case event.Group:
		if blank(k.groupID) {
			return &refusal{CodeIDRequired, "a group call needs a groupId", "groupId"}
		}
	case event.Alias:
		if blank(k.userID) {
			return &refusal{CodeIDRequired, "an alias call needs a userId", "userId"}
		}
		if blank(k.previousID) {
			return &refusal{CodeIDRequired, "an alias call needs a previousId", "previousId"}
		}
	}
	return nil
}

// validateMessageID takes numbers, which a few senders use, by their text.
func (in *intake) validateMessageID(k *call) *refusal {
	id := k.messageID
	length := utf8.RuneCountInString(id.Str)
	switch id.Type {
	case gjson.Null:
		return nil
	case gjson.Number:
		length = len(id.Raw)
	case gjson.String:
	default:
		return &refusal{CodeMessageIDNotString, "messageId must be a string", "messageId"}
	}
	if limit := in.c.limits.MessageIDLen; length > limit {
		return &refusal{CodeMessageIDTooLong, fmt.Sprintf("messageId has %d characters, the most is %d", length, limit), "messageId"}
	}
	return nil
}

// validateDocuments wants objects where objects belong. An empty array is how
// PHP writes an empty object; where Segment has no code against it, it is taken
// for one.
func validateDocuments(k *call) *refusal {
	isObject := func(v gjson.Result) bool { return v.Raw == "" || v.Type == gjson.Null || v.IsObject() }
	isEmpty := func(v gjson.Result) bool { return v.IsArray() && v.Get("#").Int() == 0 }
	switch {
	case !isObject(k.properties):
		return &refusal{CodePropertiesNotObj, "properties must be an object", "properties"}
	case !isObject(k.traits):
		return &refusal{CodeTraitsNotObject, "traits must be an object", "traits"}
	case !isObject(k.context) && !isEmpty(k.context):
		return &refusal{CodeContextNotObject, "context must be an object", "context"}
	case !isObject(k.integrations) && !isEmpty(k.integrations):
		return &refusal{CodeIntegrationsNotObj, "integrations must be an object", "integrations"}
	}
	return nil
}

// validateConsent checks what a change of consent says.
func validateConsent(k *call) *refusal {
	consent := k.context.Get("consent")
	preferences := consent.Get("categoryPreferences")
	const field = "context.consent.categoryPreferences"
	switch {
	case !preferences.Exists() || preferences.Type == gjson.Null:
		return &refusal{CodeConsentMissing, "a change of consent needs " + field, field}
	case !preferences.IsObject():
		return &refusal{CodeConsentNotObject, field + " must be an object", field}
	}
	var r *refusal
	preferences.ForEach(func(key, v gjson.Result) bool {
		if !v.IsBool() {
			r = &refusal{CodeConsentNotBool, fmt.Sprintf("%s must hold true or false under %s", field, head(key.Raw, 100)), field}
		}
		return r == nil
	})
	if r != nil {
		return r
	}
	if v := consent.Get("version"); v.Exists() && v.Type != gjson.Number {
		return &refusal{CodeConsentVersion, "context.consent.version must be a number", "context.consent.version"}
	}
	if v := k.context.Get("device.advertisingId"); v.Exists() && v.Type != gjson.Null && v.Type != gjson.String {
		return &refusal{CodeConsentAdvertising, "context.device.advertisingId must be a string", "context.device.advertisingId"}
	}
	return nil
}
