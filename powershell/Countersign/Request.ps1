# Signing requests: the forms that submit them, the wait for their end, and the way of the signed artifact to a file.

# The pause between two looks at a signing request.
$script:PollPauseInSeconds = 5

# Finds the id in the Location of a new signing request.
$script:SigningRequestIdPattern = [regex] 'SigningRequests/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})'

# What the server knows of an artifact's origin. Other keys are sent too.
$script:OriginKeys = @(
    'RepositoryData.SourceControlManagementType'
    'RepositoryData.Url'
    'RepositoryData.BranchName'
    'RepositoryData.CommitId'
    'BuildData.Url'
    'BuildData.BuildSettingsFile'
)

# Returns a form's field with a text.
function ConvertTo-TextField {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [string] $Name,
        [AllowEmptyString()] [string] $Value
    )

    [PSCustomObject] @{ Name = $Name; Value = $Value; Path = $null }
}

# Returns a form's field with a file. Parameter is what the caller named the file with.
function ConvertTo-FileField {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [string] $Name,
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [string] $Parameter
    )

    $full = Resolve-FilePath -Path $Path
    if (-not [System.IO.File]::Exists($full)) {
        throw [System.IO.FileNotFoundException]::new("There is no file '$full'. Check $Parameter.", $full)
    }
    [PSCustomObject] @{ Name = $Name; Value = $null; Path = $full }
}

# Returns the fields that say what is signed how: those of the given parameters that the caller has set, in their order.
function Get-TextField {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [System.Collections.IDictionary] $Bound,
        [Parameter(Mandatory = $true)] [string[]] $Name
    )

    foreach ($parameter in $Name) {
        if ($Bound.ContainsKey($parameter) -and $Bound[$parameter]) {
            ConvertTo-TextField -Name $parameter -Value $Bound[$parameter]
        }
    }
}

# Returns the fields of user-defined parameters, by name.
function Get-ParameterField {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param([AllowNull()] [hashtable] $Parameters)

    if ($null -eq $Parameters) {
        return
    }
    foreach ($name in ($Parameters.Keys | Sort-Object)) {
        ConvertTo-TextField -Name "Parameters.$name" -Value ([string] $Parameters[$name])
    }
}

# Returns an origin's values under dotted names, whether they came nested or not.
function Get-FlatOrigin {
    [CmdletBinding()]
    [OutputType([hashtable])]
    param(
        [Parameter(Mandatory = $true)] [System.Collections.IDictionary] $Origin,
        [AllowEmptyString()] [string] $Prefix
    )

    $flat = @{}
    foreach ($key in $Origin.Keys) {
        $value = $Origin[$key]
        if ($value -is [System.Collections.IDictionary]) {
            $flat += Get-FlatOrigin -Origin $value -Prefix "$Prefix$key."
        }
        else {
            $flat["$Prefix$key"] = [string] $value
        }
    }
    return $flat
}

# Returns the fields of an origin. Keys that end in File take a file, as '@path'.
function Get-OriginField {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param([AllowNull()] [hashtable] $Origin)

    if ($null -eq $Origin) {
        return
    }
    $flat = Get-FlatOrigin -Origin $Origin
    foreach ($key in ($flat.Keys | Sort-Object)) {
        $value = $flat[$key]
        if ($key -notin $script:OriginKeys) {
            Write-Warning -Message ("-Origin has '{0}', which servers may ignore. Known are: {1}." -f $key, ($script:OriginKeys -join ', '))
        }
        if (-not $key.EndsWith('File', [System.StringComparison]::OrdinalIgnoreCase)) {
            ConvertTo-TextField -Name "Origin.$key" -Value $value
            continue
        }
        if (-not $value.StartsWith('@', [System.StringComparison]::Ordinal)) {
            throw [System.ArgumentException]::new("-Origin '$key' is a file: write its path after an @, as in '@build/settings.json'.")
        }
        ConvertTo-FileField -Name "Origin.$key" -Path $value.Substring(1) -Parameter "-Origin '$key'"
    }
}

# Returns the fields that tell where the server gets the artifact from.
function Get-RetrievalField {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [string] $Url,
        [Parameter(Mandatory = $true)] [string] $FileName,
        [AllowEmptyString()] [string] $Sha256Hash,
        [AllowNull()] [hashtable] $HttpHeaders
    )

    ConvertTo-TextField -Name 'ArtifactRetrievalLink.Url' -Value $Url
    ConvertTo-TextField -Name 'ArtifactRetrievalLink.FileName' -Value $FileName
    if ($Sha256Hash) {
        ConvertTo-TextField -Name 'ArtifactRetrievalLink.Sha256Hash' -Value $Sha256Hash
    }
    if ($null -eq $HttpHeaders) {
        return
    }
    $index = 0
    foreach ($name in ($HttpHeaders.Keys | Sort-Object)) {
        ConvertTo-TextField -Name "ArtifactRetrievalLink.HttpHeaders[$index].Key" -Value $name
        ConvertTo-TextField -Name "ArtifactRetrievalLink.HttpHeaders[$index].Value" -Value ([string] $HttpHeaders[$name])
        $index++
    }
}

# Sends a form that makes a signing request. Returns the request's id.
function Invoke-Submission {
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Connection,
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [PSCustomObject[]] $Field
    )

    $activity = 'Submitting the signing request'
    $reply = Invoke-Call -Connection $Connection -Method 'POST' -Path $Path -Field $Field -Activity $activity
    Assert-Success -Reply $reply -Activity $activity
    $created = ConvertFrom-JsonText -Text $reply.Text
    $id = Get-JsonProperty -InputObject $created -Name 'signingRequestId'
    if ($reply.Location) {
        $match = $script:SigningRequestIdPattern.Match($reply.Location)
        if ($match.Success) {
            $id = $match.Groups[1].Value
        }
    }
    if (-not $id) {
        throw [System.InvalidOperationException]::new(('{0}: the server answered {1} without a signing request id. Check -ApiUrl ({2}): it must be the address of the REST API, without a redirection.' -f
                $activity, $reply.StatusCode, $Connection.BaseUri))
    }
    Write-Verbose -Message ('Signing request {0}: {1}' -f $id, (Get-JsonProperty -InputObject $created -Name 'webLink'))
    return [string] $id
}

# Waits until a signing request is completed. Any other end, and the end of the time, is an error. Returns the request.
function Wait-SigningRequest {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Connection,
        [Parameter(Mandatory = $true)] [string] $SigningRequestId,
        [Parameter(Mandatory = $true)] [int] $TimeoutInSeconds
    )

    $activity = "Waiting for signing request $SigningRequestId"
    $path = 'SigningRequests/' + [System.Uri]::EscapeDataString($SigningRequestId)
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    try {
        while ($true) {
            $reply = Invoke-Call -Connection $Connection -Method 'GET' -Path $path -Activity $activity
            Assert-Success -Reply $reply -Activity $activity
            $request = ConvertFrom-JsonText -Text $reply.Text
            $status = Get-JsonProperty -InputObject $request -Name 'status'
            if (-not $status) {
                throw [System.InvalidOperationException]::new(('{0}: the reply is no signing request. Check -ApiUrl ({1}).' -f $activity, $Connection.BaseUri))
            }
            if (Get-JsonProperty -InputObject $request -Name 'isFinalStatus') {
                break
            }
            $left = $TimeoutInSeconds - $watch.Elapsed.TotalSeconds
            if ($left -le 0) {
                throw [System.TimeoutException]::new(('{0}: its status is {1} after {2} seconds. It goes on without this command: wait longer (-WaitForCompletionTimeoutInSeconds), or fetch the result later with Get-SignedArtifact -SigningRequestId {3}. {4}' -f
                        $activity, $status, $TimeoutInSeconds, $SigningRequestId, (Get-JsonProperty -InputObject $request -Name 'webLink')).TrimEnd())
            }
            $workflowStatus = Get-JsonProperty -InputObject $request -Name 'workflowStatus'
            Write-Verbose -Message ('{0}: {1} ({2})' -f $activity, $status, $workflowStatus)
            Write-Progress -Activity $activity -Status ('{0} ({1})' -f $status, $workflowStatus) -SecondsRemaining ([int] $left)
            Start-Sleep -Milliseconds ([int] [System.Math]::Min(1000 * $script:PollPauseInSeconds, [System.Math]::Ceiling(1000 * $left)))
        }
    }
    finally {
        Write-Progress -Activity $activity -Completed
    }
    if ($status -ne 'Completed') {
        throw [System.InvalidOperationException]::new((Get-FailureMessage -Request $request -SigningRequestId $SigningRequestId))
    }
    return $request
}

# Returns the message for a signing request that ended without a signed artifact.
function Get-FailureMessage {
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Request,
        [Parameter(Mandatory = $true)] [string] $SigningRequestId
    )

    $status = Get-JsonProperty -InputObject $Request -Name 'status'
    $workflowStatus = Get-JsonProperty -InputObject $Request -Name 'workflowStatus'
    $lines = @("Signing request $SigningRequestId ended as $status ($workflowStatus).")
    switch ($workflowStatus) {
        'ArtifactRetrievalFailed' {
            $lines += 'The server could not retrieve the artifact: check -ArtifactRetrievalLink, its HTTP headers and its SHA-256 hash, and that the server can reach the address.'
        }
        'ProcessingFailed' {
            $lines += 'Signing failed: does the artifact have the structure that the artifact configuration describes?'
        }
        'MalwareDetected' {
            $lines += 'The malware scanner objects to the artifact.'
        }
        'Denied' {
            $lines += 'An approver denied it.'
        }
        'Canceled' {
            $lines += 'It was canceled, by a user or because -CancellationTimeoutInSeconds was over.'
        }
    }
    $failure = Get-JsonProperty -InputObject $Request -Name 'failure'
    $lines += Get-JsonProperty -InputObject $failure -Name 'message'
    $lines += Get-JsonProperty -InputObject $Request -Name 'webLink'
    Join-Line -Line $lines
}

# Throws when a file exists that must not be overwritten, or its folder is missing: before anything is submitted.
function Assert-OutputPath {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [bool] $Force
    )

    if ([System.IO.Directory]::Exists($Path)) {
        throw [System.IO.IOException]::new("-OutputArtifactPath '$Path' is a folder. Name a file in it.")
    }
    if (-not $Force -and [System.IO.File]::Exists($Path)) {
        throw [System.IO.IOException]::new("The file '$Path' exists already. Use -Force to overwrite it, or another -OutputArtifactPath.")
    }
    $folder = [System.IO.Path]::GetDirectoryName($Path)
    if (-not [System.IO.Directory]::Exists($folder)) {
        throw [System.IO.DirectoryNotFoundException]::new("The folder '$folder' of -OutputArtifactPath does not exist. Create it first.")
    }
}

# Waits for a signing request and downloads its signed artifact. The file appears under its name when it is complete.
function Receive-SignedArtifact {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Connection,
        [Parameter(Mandatory = $true)] [string] $SigningRequestId,
        [Parameter(Mandatory = $true)] [string] $OutputPath,
        [Parameter(Mandatory = $true)] [int] $TimeoutInSeconds,
        [Parameter(Mandatory = $true)] [bool] $Force
    )

    $request = Wait-SigningRequest -Connection $Connection -SigningRequestId $SigningRequestId -TimeoutInSeconds $TimeoutInSeconds
    if (-not (Get-JsonProperty -InputObject $request -Name 'signedArtifactLink')) {
        throw [System.InvalidOperationException]::new("Signing request $SigningRequestId is completed, but its artifacts have been deleted on the server. Submit the artifact again.")
    }
    $activity = 'Downloading the signed artifact'
    $partial = '{0}.{1}.partial' -f $OutputPath, [System.Guid]::NewGuid().ToString('N')
    try {
        $path = 'SigningRequests/{0}/SignedArtifact' -f [System.Uri]::EscapeDataString($SigningRequestId)
        $reply = Invoke-Call -Connection $Connection -Method 'GET' -Path $path -OutputPath $partial -Activity $activity
        Assert-Success -Reply $reply -Activity $activity
        Assert-OutputPath -Path $OutputPath -Force $Force
        [System.IO.File]::Delete($OutputPath)
        [System.IO.File]::Move($partial, $OutputPath)
    }
    finally {
        [System.IO.File]::Delete($partial)
    }
    Write-Verbose -Message "Signed artifact: $OutputPath"
}
