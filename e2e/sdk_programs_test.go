package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// sdks are the programs of folder sdk.
func sdks() []sdk {
	every := []string{"identify", "track", "page", "screen", "group", "alias"}
	program := func(name string, args ...string) func(*testing.T) *exec.Cmd {
		return func(*testing.T) *exec.Cmd { return exec.Command(filepath.FromSlash(name), args...) }
	}
	return []sdk{
		{
			name: "java", https: "can", library: "analytics-java", calls: every, paths: []string{"/v1/import/"}, slow: true,
			differs: map[string]string{"screen category": ""}, // it has none
			tool:    "java", folder: "java",
			command: func(t *testing.T) *exec.Cmd { return jvm(t, "java") },
		},
		{
			name: "python", https: "can", library: "analytics-python", calls: every, paths: []string{"/v1/batch"}, counts: true,
			tool: "python3", folder: "python",
			command: program("sdk/python/build/venv/bin/python", "sdk/python/driver.py"),
		},
		{
			// Its write key is in the body alone, and nothing but 200 is success.
			name: "python-before", https: "can", library: "analytics-python", calls: every, paths: []string{"/v1/batch"},
			tool: "python3", folder: "python",
			command: func(*testing.T) *exec.Cmd {
				cmd := exec.Command("sdk/python/build/venv/bin/python", "sdk/python/driver.py")
				cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.FromSlash("sdk/python/build/before"))
				return cmd
			},
		},
		{
			name: "go", https: "can", library: "analytics-go", calls: every, paths: []string{"/v1/batch"},
			differs: map[string]string{"page category": "", "screen category": ""}, // it has none
			tool:    "go", folder: "go",
			command: func(t *testing.T) *exec.Cmd {
				name := filepath.Join(t.TempDir(), "driver")
				built(t, "sdk/go", "go", "build", "-o", name, ".")
				return exec.Command(name)
			},
		},
		{
			// It sends no context of its own, and page and screen have no category.
			name: "rust", calls: every, paths: []string{"/v1/batch"},
			differs: map[string]string{"page category": "", "screen category": ""},
			tool:    "cargo", folder: "rust",
			command: func(t *testing.T) *exec.Cmd {
				built(t, "sdk/rust", "cargo", "build", "--quiet", "--locked", "--offline", "--target-dir", "build/target")
				return exec.Command("sdk/rust/build/target/debug/driver")
			},
		},
		kotlin("kotlin", ""),
		// The settings switch on an engine for retries, with X-Retry-Count.
		kotlin("kotlin-httpconfig", "{backoffConfig: {baseBackoffInterval: 0.1}}"),
		{
			name: "react-native", https: "can", library: "analytics-react-native", calls: []string{"identify", "track", "screen", "group", "alias"}, paths: []string{"/v1/b"},
			counts: true, settings: "/v1/projects/WRITE_KEY/settings",
			differs: map[string]string{
				"identify anonymousId": "*", "track anonymousId": "*", "screen anonymousId": "*", "group anonymousId": "*",
				"screen category": "", "alias userId": "PERSON-new", "alias previousId": "PERSON",
			},
			tool: "node", folder: "react-native",
			command: program("node", "sdk/react-native/driver.cjs"),
		},
		{
			name: "node", https: "can", library: "@segment/analytics-node", calls: every, paths: []string{"/v1/batch"}, counts: true,
			tool: "node", folder: "node",
			command: program("node", "sdk/node/driver.mjs"),
		},
		{
			name: "node-legacy", https: "can", library: "analytics-node", calls: every, paths: []string{"/v1/batch"},
			tool: "node", folder: "node",
			command: program("node", "sdk/node/legacy.mjs"),
		},
	}
}

// built runs what builds a program, in its folder.
func built(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// jvm runs the Driver.java of an SDK, which e2e/sdk/install has compiled.
func jvm(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	classpath, err := os.ReadFile("sdk/" + name + "/build/classpath")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("java", "-XX:TieredStopAtLevel=1", "Driver")
	cmd.Env = append(os.Environ(), "CLASSPATH=sdk/"+name+"/build/classes"+string(os.PathListSeparator)+string(classpath))
	return cmd
}

// kotlin is the program of the Kotlin SDK on the JVM.
func kotlin(name, httpConfig string) sdk {
	return sdk{
		name: name, library: "analytics-kotlin", calls: []string{"identify", "track", "screen", "group", "alias"}, paths: []string{"/v1/b"},
		https: "must", settings: "/v1/projects/WRITE_KEY/settings", httpConfig: httpConfig, counts: httpConfig != "",
		differs: map[string]string{
			// It makes the anonymous id itself.
			"identify anonymousId": "*", "track anonymousId": "*", "screen anonymousId": "*", "group anonymousId": "*",
			// Its alias is from the user it knows.
			"alias userId": "PERSON-new", "alias previousId": "PERSON",
		},
		tool: "java", folder: "kotlin",
		command: func(t *testing.T) *exec.Cmd { return jvm(t, "kotlin") },
	}
}
