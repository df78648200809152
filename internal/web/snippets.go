package web

import "strings"

// snippet is a command to paste, for one client.
type snippet struct{ id, title, text string }

// snippets are commands that submit an artifact to the policy, with its real names. Tokens stay variables: nothing secret is
// on a page.
func (x *exchange) snippets(d policyData) []snippet {
	curl := []string{
		`curl --fail-with-body -H "Authorization: Bearer $API_TOKEN" \`,
		`     -F projectSlug={project} -F signingPolicySlug={policy} \`,
		`     -F artifact=@app.exe -F description="Release candidate" \`,
		`     {origin}/Api/v1/{organization}/SigningRequests/SubmitWithArtifact`,
	}
	cli := []string{
		`export COUNTERSIGN_URL={origin}`,
		`export COUNTERSIGN_ORGANIZATION={organization}`,
		`export COUNTERSIGN_TOKEN=$API_TOKEN`,
		`countersign request submit --project {project} --policy {policy} \`,
		`     --wait --output app-signed.exe app.exe`,
	}
	powershell := []string{
		"Submit-SigningRequest -ApiUrl '{origin}/Api' -ApiToken $env:API_TOKEN `",
		"  -OrganizationId '{organization}' -ProjectSlug '{project}' -SigningPolicySlug '{policy}' `",
		"  -InputArtifactPath 'app.exe' -WaitForCompletion -OutputArtifactPath 'app-signed.exe'",
	}
	if wantsOrigin(d.Policy) {
		curl[0] = `curl --fail-with-body -H "Authorization: Bearer $API_TOKEN:$BUILD_SYSTEM_TOKEN" \`
		curl = insert(curl, 3,
			`     -F Origin.RepositoryData.SourceControlManagementType=git -F Origin.RepositoryData.Url="$REPOSITORY_URL" \`,
			`     -F Origin.RepositoryData.BranchName="$BRANCH" -F Origin.RepositoryData.CommitId="$COMMIT" \`)
		cli = insert(cli, 3, `export COUNTERSIGN_TRUSTED_BUILD_SYSTEM_TOKEN=$BUILD_SYSTEM_TOKEN`)
		cli = insert(cli, 5, `     --origin-repository "$REPOSITORY_URL" --origin-branch "$BRANCH" --origin-commit "$COMMIT" \`)
		powershell[0] = "Submit-SigningRequest -ApiUrl '{origin}/Api' -ApiToken \"${env:API_TOKEN}:${env:BUILD_SYSTEM_TOKEN}\" `"
		powershell = insert(powershell, 2,
			"  -Origin @{ RepositoryData = @{ SourceControlManagementType = 'git'; Url = $env:REPOSITORY_URL; `",
			"             BranchName = $env:BRANCH; CommitId = $env:COMMIT } } `")
	}
	fill := strings.NewReplacer("{origin}", x.origin(), "{organization}", string(x.actor.OrganizationID),
		"{project}", d.project.Slug, "{policy}", d.Slug)
	text := func(lines []string) string { return fill.Replace(strings.Join(lines, "\n")) }
	return []snippet{{"curl", "curl", text(curl)}, {"cli", "Command line", text(cli)}, {"powershell", "PowerShell", text(powershell)}}
}

func insert(lines []string, at int, more ...string) []string {
	return append(lines[:at:at], append(more, lines[at:]...)...)
}
