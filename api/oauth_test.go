package api_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

func TestOAuthApps(t *testing.T) {
	w := newWorld(t)
	web, shop := w.source("web"), w.source("shop")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))

	r := w.post("/api/oauth/apps", object{"name": "backend", "publicKey": public, "sourceIds": []string{"web"}}).is(201,
		"data.app.name", "backend", "data.app.keys.0.name", "backend", "data.app.scopes", "[tracking_api:write]",
		"data.app.tokenTtlSeconds", 86400, "data.app.allSources", false, "data.app.sourceIds", "["+web+"]")
	id, kid := r.text("data.app.id"), r.text("data.app.keys.0.id")
	if !strings.HasPrefix(id, "oa_") || !strings.HasPrefix(kid, "key_") || r.text("data.app.keys.0.publicKey") != public {
		t.Errorf("the application: %s", r.body)
	}
	at := "/api/oauth/apps/" + id
	w.get(at).is(200, "data.app.id", id)
	w.get("/api/oauth/apps").is(200, "data.apps.0.id", id, "data.pagination.totalEntries", 1)
	w.patch(at, object{"sourceIds": []string{shop, "web"}, "tokenTtlSeconds": 3600, "name": "servers"}).is(200,
		"data.app.sourceIds", "["+shop+" "+web+"]", "data.app.tokenTtlSeconds", 3600, "data.app.name", "servers")
	w.patch(at, object{"allSources": true}).is(200, "data.app.allSources", true, "data.app.sourceIds", "[]")
	w.patch(at, object{"sourceIds": []string{"web"}}).is(200, "data.app.allSources", false)
	w.patch(at, object{"tokenTtlSeconds": 60}).refused(422, "tokenTtlSeconds", "not between an hour and 30 days")
	w.patch(at, object{"sourceIds": []string{"nowhere"}}).refused(422, "sourceIds", "no source")
	w.patch(at, object{"scopes": []string{"functions:write"}}).refused(422, "scopes", "tracking_api:write")
	w.post(at+"/keys", object{"name": "again", "publicKey": public}).refused(409, "", "has that key already")
	refused := w.post(at+"/keys", object{"name": "oops", "publicKey": private}).refused(422, "publicKey", "private key")
	if strings.Contains(refused.body, private[40:80]) {
		t.Error("the answer shows the private key")
	}
	w.delete(at+"/keys/key_other").refused(404, "", "no key")
	w.delete(at+"/keys/"+kid).is(200, "data.app.keys", "[]")
	w.post(at+"/keys", object{"name": "again", "publicKey": public}).is(201, "data.app.keys.0.id", kid, "data.app.keys.0.name", "again")

	w.post("/api/oauth/apps", object{"name": "x"}).refused(422, "sourceIds", "name the sources")
	w.post("/api/oauth/apps", object{"name": "x", "allSources": true, "tokenTtlSeconds": 99999999999999}).refused(422, "tokenTtlSeconds", "")
	w.post("/api/oauth/revoke", object{"token": "kith_access_x"}).refused(422, "token", "paste it whole")
	w.delete(at).is(200, "data.status", "SUCCESS")
	w.delete(at).refused(404, "", "no OAuth application")
	w.get(at).refused(404, "", "no OAuth application")
}
