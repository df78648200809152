# The connection to a server: its address and credentials, one HTTP call with everything that can go wrong on the way, and
# the patience with which a call is tried again.

# The pause before a call is tried again, unless the server's Retry-After names one.
$script:RetryPauseInSeconds = 30

# How long a call may take that transfers no file.
$script:CallTimeoutInSeconds = 100

# How much of a reply is read as text. Descriptions and problem details are far smaller.
$script:MaxTextLength = 1024 * 1024

$script:CopyBufferLength = 128 * 1024

# Returns a parameter's value or, when that is empty, the first of the environment variables that is set.
function Get-Setting {
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [AllowEmptyString()] [string] $Value,
        [Parameter(Mandatory = $true)] [string] $Parameter,
        [Parameter(Mandatory = $true)] [string[]] $Variable
    )

    if (-not [string]::IsNullOrWhiteSpace($Value)) {
        return $Value.Trim()
    }
    foreach ($name in $Variable) {
        $found = [System.Environment]::GetEnvironmentVariable($name)
        if (-not [string]::IsNullOrWhiteSpace($found)) {
            return $found.Trim()
        }
    }
    throw [System.ArgumentException]::new(('Pass -{0}, or set the environment variable {1}.' -f $Parameter, ($Variable -join ' or ')))
}

# Returns the full path of a file for .NET, which does not know PowerShell's current location.
function Resolve-FilePath {
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [string] $Path)

    $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
}

# Opens the connection that the other functions take. Its Client must be disposed of.
function Open-Connection {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [AllowEmptyString()] [string] $ApiUrl,
        [AllowEmptyString()] [string] $OrganizationId,
        [AllowEmptyString()] [string] $ApiToken,
        [AllowNull()] [System.Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate,
        [Parameter(Mandatory = $true)] [int] $ServiceUnavailableTimeoutInSeconds,
        [Parameter(Mandatory = $true)] [int] $UploadAndDownloadRequestTimeoutInSeconds
    )

    $url = (Get-Setting -Value $ApiUrl -Parameter 'ApiUrl' -Variable 'COUNTERSIGN_URL').TrimEnd('/')
    $organization = Get-Setting -Value $OrganizationId -Parameter 'OrganizationId' -Variable 'COUNTERSIGN_ORGANIZATION'
    $token = Get-Setting -Value $ApiToken -Parameter 'ApiToken' -Variable 'COUNTERSIGN_TOKEN', 'SIGNPATH_API_TOKEN', 'SIGNPATH_CI_USER_TOKEN'

    if ($token -notmatch '^[\x21-\x7e]+$') {
        throw [System.ArgumentException]::new('-ApiToken is no token: it has blanks, line breaks or letters that no token has. Copy it again.')
    }
    $address = $null
    if (-not [System.Uri]::TryCreate($url, [System.UriKind]::Absolute, [ref] $address) -or $address.Scheme -notin 'https', 'http') {
        throw [System.ArgumentException]::new("-ApiUrl '$url' is no web address. It looks like https://sign.example.com/Api.")
    }
    if ($address.Scheme -eq 'http' -and -not $address.IsLoopback) {
        Write-Warning -Message "The API token and the artifact travel unencrypted to $url. Use an https address."
    }

    Enable-Tls12
    $handler = [System.Net.Http.HttpClientHandler]::new()
    if ($null -ne $ClientCertificate) {
        $handler.ClientCertificateOptions = [System.Net.Http.ClientCertificateOption]::Manual
        [void] $handler.ClientCertificates.Add($ClientCertificate)
    }
    $client = [System.Net.Http.HttpClient]::new($handler, $true)
    # Each call has a time limit of its own, which counts the bodies too.
    $client.Timeout = [System.Threading.Timeout]::InfiniteTimeSpan
    # Some proxies never answer the question whether the body may be sent.
    $client.DefaultRequestHeaders.ExpectContinue = $false
    $client.DefaultRequestHeaders.Authorization = [System.Net.Http.Headers.AuthenticationHeaderValue]::new('Bearer', $token)
    [void] $client.DefaultRequestHeaders.TryAddWithoutValidation('User-Agent', "Countersign-PowerShell/$($ExecutionContext.SessionState.Module.Version)")

    [PSCustomObject] @{
        Client                    = $client
        BaseUri                   = '{0}/v1/{1}/' -f $url, [System.Uri]::EscapeDataString($organization)
        ServiceUnavailableTimeout = $ServiceUnavailableTimeoutInSeconds
        TransferTimeout           = $UploadAndDownloadRequestTimeoutInSeconds
    }
}

# Windows PowerShell offers servers TLS 1.0 by default. PowerShell 7 leaves the choice to the operating system.
function Enable-Tls12 {
    [CmdletBinding()]
    param()

    if ($PSVersionTable.PSEdition -eq 'Core') {
        return
    }
    $enabled = [System.Net.ServicePointManager]::SecurityProtocol
    $systemDefault = 0
    if ([int] $enabled -ne $systemDefault) {
        [System.Net.ServicePointManager]::SecurityProtocol = $enabled -bor [System.Net.SecurityProtocolType]::Tls12
    }
}

# Calls the server until it answers with something else than a temporary failure: 429, a 5xx status, or no answer at all.
# Field makes the call a form: objects with Name and either Value or, for a file, Path. With OutputPath the body of a
# successful reply is written to that file. Returns the reply that Send-Call returns.
function Invoke-Call {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Connection,
        [Parameter(Mandatory = $true)] [string] $Method,
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [string] $Activity,
        [PSCustomObject[]] $Field,
        [string] $OutputPath
    )

    # A server that knows the header does not take a repeated submission for a second one.
    $idempotencyKey = [System.Guid]::NewGuid().ToString()
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        $pause = $script:RetryPauseInSeconds
        $reply = $null
        try {
            $reply = Send-Call @PSBoundParameters -IdempotencyKey $idempotencyKey
            if ($reply.StatusCode -ne 429 -and $reply.StatusCode -lt 500) {
                return $reply
            }
            $problem = 'the server answered {0} {1}' -f $reply.StatusCode, $reply.ReasonPhrase
            if ($null -ne $reply.RetryAfter) {
                $pause = $reply.RetryAfter
            }
        }
        catch [System.Net.Http.HttpRequestException] {
            $problem = $_.Exception.Message
            if ($Field) {
                $refusal = Get-EarlyRefusal -Connection $Connection -Method $Method -Path $Path -Activity $Activity -Field $Field
                if ($null -ne $refusal) {
                    return $refusal
                }
            }
        }
        if ($watch.Elapsed.TotalSeconds + $pause -gt $Connection.ServiceUnavailableTimeout) {
            $lines = @('{0}: {1}. Gave up after {2:0} seconds (-ServiceUnavailableTimeoutInSeconds {3}); check -ApiUrl ({4}) and the network, then try again.' -f
                    $Activity, $problem, $watch.Elapsed.TotalSeconds, $Connection.ServiceUnavailableTimeout, $Connection.BaseUri)
            if ($null -ne $reply) {
                $lines += @(Get-ProblemLine -Text $reply.Text)
            }
            throw [System.InvalidOperationException]::new((Join-Line -Line $lines))
        }
        Write-Warning -Message ('{0}: {1}. Trying again in {2} seconds.' -f $Activity, $problem, $pause)
        Start-Sleep -Seconds $pause
    }
}

# A server may refuse an upload before it has read it, and close the connection: .NET then loses the answer. The form without
# its files gets the same answer. Returns that answer, or null when the server does not refuse the caller.
function Get-EarlyRefusal {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Connection,
        [Parameter(Mandatory = $true)] [string] $Method,
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [string] $Activity,
        [Parameter(Mandatory = $true)] [PSCustomObject[]] $Field
    )

    $texts = @($Field | Where-Object -FilterScript { $null -eq $_.Path })
    if ($texts.Count -eq $Field.Count) {
        return $null
    }
    $key = [System.Guid]::NewGuid().ToString()
    try {
        $reply = Send-Call -Connection $Connection -Method $Method -Path $Path -Activity $Activity -Field $texts -IdempotencyKey $key
    }
    catch [System.Net.Http.HttpRequestException] {
        return $null
    }
    if ($reply.StatusCode -in 401, 403) {
        return $reply
    }
    return $null
}

# Makes one call. Returns StatusCode, ReasonPhrase, Location (absolute, or null), RetryAfter (seconds, or null) and Text,
# the reply's body unless it went to OutputPath. A failure of the network is an HttpRequestException.
function Send-Call {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Connection,
        [Parameter(Mandatory = $true)] [string] $Method,
        [Parameter(Mandatory = $true)] [string] $Path,
        [Parameter(Mandatory = $true)] [string] $Activity,
        [Parameter(Mandatory = $true)] [string] $IdempotencyKey,
        [PSCustomObject[]] $Field,
        [string] $OutputPath
    )

    $call = @{
        Activity     = $Activity
        Cancellation = [System.Threading.CancellationTokenSource]::new()
        Watch        = [System.Diagnostics.Stopwatch]::StartNew()
        Timeout      = $script:CallTimeoutInSeconds
        Shown        = -1000
        Stream       = $null
        Length       = 0
    }
    $request = [System.Net.Http.HttpRequestMessage]::new([System.Net.Http.HttpMethod]::new($Method), $Connection.BaseUri + $Path)
    $response = $null
    $opened = [System.Collections.Generic.List[System.IO.FileStream]]::new()
    try {
        if ($Field) {
            [void] $request.Headers.TryAddWithoutValidation('Idempotency-Key', $IdempotencyKey)
            $request.Content = ConvertTo-FormContent -Field $Field -Opened $opened
        }
        foreach ($file in $opened) {
            if ($file.Length -ge $call.Length) {
                $call.Stream = $file
                $call.Length = $file.Length
            }
        }
        if ($opened.Count -gt 0 -or $OutputPath) {
            $call.Timeout = $Connection.TransferTimeout
        }
        $sent = $Connection.Client.SendAsync($request, [System.Net.Http.HttpCompletionOption]::ResponseHeadersRead, $call.Cancellation.Token)
        Wait-NetworkTask -Task $sent -Call $call
        $response = $sent.Result
        $call.Stream = $null

        $location = $null
        if ($null -ne $response.Headers.Location -and $response.Headers.Location.IsAbsoluteUri) {
            $location = $response.Headers.Location.AbsoluteUri
        }
        $retryAfter = $null
        $advice = $response.Headers.RetryAfter
        if ($null -ne $advice) {
            # A number of seconds or a date (RFC 9110, 10.2.3).
            $delay = $advice.Delta
            if ($null -eq $delay) {
                $delay = $advice.Date - [System.DateTimeOffset]::UtcNow
            }
            $retryAfter = [int] [System.Math]::Min([int]::MaxValue, [System.Math]::Max(1, [System.Math]::Ceiling($delay.TotalSeconds)))
        }
        $text = ''
        if ($OutputPath -and $response.IsSuccessStatusCode) {
            Save-Body -Response $response -Call $call -OutputPath $OutputPath
        }
        else {
            $text = Read-Body -Response $response -Call $call
        }
        [PSCustomObject] @{
            StatusCode   = [int] $response.StatusCode
            ReasonPhrase = $response.ReasonPhrase
            Location     = $location
            RetryAfter   = $retryAfter
            Text         = $text
        }
    }
    finally {
        # Reached on Ctrl+C too: what is under way ends with its connection.
        $call.Cancellation.Cancel()
        if ($null -ne $response) {
            $response.Dispose()
        }
        $request.Dispose()
        foreach ($file in $opened) {
            $file.Dispose()
        }
        $call.Cancellation.Dispose()
        Write-Progress -Activity $Activity -Completed
    }
}

# Waits for a task of the network, showing how far the call's stream is, until the call's time is up.
function Wait-NetworkTask {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [System.Threading.Tasks.Task] $Task,
        [Parameter(Mandatory = $true)] [hashtable] $Call
    )

    while (-not $Task.IsCompleted) {
        # In short steps: Ctrl+C takes effect between them.
        [void] [System.Threading.Tasks.Task]::WaitAny([System.Threading.Tasks.Task[]] @($Task), 200)
        if ($Call.Watch.Elapsed.TotalSeconds -gt $Call.Timeout) {
            $Call.Cancellation.Cancel()
            throw [System.Net.Http.HttpRequestException]::new(('no complete answer within {0} seconds' -f $Call.Timeout))
        }
        Write-TransferProgress -Call $Call
    }
    if ($Task.IsCanceled) {
        throw [System.Net.Http.HttpRequestException]::new('the call was canceled')
    }
    if (-not $Task.IsFaulted) {
        return
    }
    for ($failure = $Task.Exception; $null -ne $failure; $failure = $failure.InnerException) {
        if ($failure -is [System.Security.Authentication.AuthenticationException]) {
            # Waiting does not make a certificate trusted.
            throw [System.InvalidOperationException]::new(('{0}: no secure connection: {1} Check that this machine trusts the server''s certificate and that -ApiUrl has the name it is issued for.' -f
                    $Call.Activity, $failure.Message))
        }
    }
    $cause = $Task.Exception.GetBaseException()
    throw [System.Net.Http.HttpRequestException]::new($cause.Message.TrimEnd('.'), $cause)
}

# Shows the position of the call's stream, four times a second at most: Windows PowerShell draws slowly.
function Write-TransferProgress {
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [hashtable] $Call)

    if ($null -eq $Call.Stream -or $Call.Length -le 0 -or $Call.Watch.ElapsedMilliseconds - $Call.Shown -lt 250) {
        return
    }
    $Call.Shown = $Call.Watch.ElapsedMilliseconds
    try {
        $position = $Call.Stream.Position
    }
    catch {
        return # closed meanwhile: everything is sent
    }
    $percent = [int] [System.Math]::Min(100, 100 * $position / $Call.Length)
    $megabyte = 1000 * 1000
    $status = '{0:0.0} of {1:0.0} MB' -f ($position / $megabyte), ($Call.Length / $megabyte)
    Write-Progress -Activity $Call.Activity -Status $status -PercentComplete $percent
}

# Builds a multipart/form-data body (RFC 7578) that reads its files while it is sent. The files are added to Opened.
function ConvertTo-FormContent {
    [CmdletBinding()]
    [OutputType([System.Net.Http.MultipartFormDataContent])]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject[]] $Field,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [System.Collections.Generic.List[System.IO.FileStream]] $Opened
    )

    $form = [System.Net.Http.MultipartFormDataContent]::new()
    foreach ($entry in $Field) {
        if ($null -eq $entry.Path) {
            $form.Add([System.Net.Http.StringContent]::new($entry.Value), $entry.Name)
            continue
        }
        $file = [System.IO.FileStream]::new($entry.Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, [System.IO.FileShare]::Read,
            $script:CopyBufferLength, [System.IO.FileOptions]::SequentialScan)
        $Opened.Add($file)
        $content = [System.Net.Http.StreamContent]::new($file, $script:CopyBufferLength)
        $content.Headers.ContentType = [System.Net.Http.Headers.MediaTypeHeaderValue]::new('application/octet-stream')
        $form.Add($content, $entry.Name, [System.IO.Path]::GetFileName($entry.Path))
    }
    return , $form # the comma keeps the form, a collection, in one piece
}

# Returns the beginning of a reply's body as text.
function Read-Body {
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [System.Net.Http.HttpResponseMessage] $Response,
        [Parameter(Mandatory = $true)] [hashtable] $Call
    )

    if ($null -eq $Response.Content) {
        return ''
    }
    $opening = $Response.Content.ReadAsStreamAsync()
    Wait-NetworkTask -Task $opening -Call $Call
    $buffer = [byte[]]::new($script:CopyBufferLength)
    $text = [System.IO.MemoryStream]::new()
    while ($text.Length -lt $script:MaxTextLength) {
        $reading = $opening.Result.ReadAsync($buffer, 0, $buffer.Length, $Call.Cancellation.Token)
        Wait-NetworkTask -Task $reading -Call $Call
        if ($reading.Result -eq 0) {
            break
        }
        $text.Write($buffer, 0, $reading.Result)
    }
    [System.Text.Encoding]::UTF8.GetString($text.ToArray())
}

# Writes a reply's body to a file. A body that ends early is a failure of the network.
function Save-Body {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [System.Net.Http.HttpResponseMessage] $Response,
        [Parameter(Mandatory = $true)] [hashtable] $Call,
        [Parameter(Mandatory = $true)] [string] $OutputPath
    )

    $length = $Response.Content.Headers.ContentLength
    $opening = $Response.Content.ReadAsStreamAsync()
    Wait-NetworkTask -Task $opening -Call $Call
    $target = [System.IO.FileStream]::new($OutputPath, [System.IO.FileMode]::Create, [System.IO.FileAccess]::Write)
    try {
        $Call.Stream = $target
        if ($null -ne $length) {
            $Call.Length = $length
        }
        $copying = $opening.Result.CopyToAsync($target, $script:CopyBufferLength, $Call.Cancellation.Token)
        Wait-NetworkTask -Task $copying -Call $Call
        if ($null -ne $length -and $target.Length -ne $length) {
            throw [System.Net.Http.HttpRequestException]::new(('the file ended after {0} of {1} bytes' -f $target.Length, $length))
        }
    }
    finally {
        $Call.Stream = $null
        $target.Dispose()
    }
}

# Returns an object read from JSON, or null for other text.
function ConvertFrom-JsonText {
    [CmdletBinding()]
    [OutputType([System.Management.Automation.PSCustomObject])]
    param([AllowEmptyString()] [string] $Text)

    if ([string]::IsNullOrWhiteSpace($Text)) {
        return $null
    }
    try {
        # A problem that concerns no single field has an empty name, which no property may have.
        $value = ConvertFrom-Json -InputObject ($Text -replace '([{,]\s*)""(\s*:)', '$1"request"$2')
    }
    catch {
        return $null # a page of a proxy, perhaps
    }
    if ($value -is [System.Management.Automation.PSCustomObject]) {
        return $value
    }
    return $null
}

# Returns a property of an object read from JSON, or null when it has none of that name.
function Get-JsonProperty {
    [CmdletBinding()]
    param(
        [AllowNull()] [object] $InputObject,
        [Parameter(Mandatory = $true)] [string] $Name
    )

    if ($InputObject -isnot [System.Management.Automation.PSCustomObject]) {
        return $null
    }
    $property = $InputObject.PSObject.Properties[$Name]
    if ($null -eq $property) {
        return $null
    }
    return $property.Value
}

# Returns the lines that tell a reply's problem details (RFC 9457), or the beginning of any other text.
function Get-ProblemLine {
    [CmdletBinding()]
    [OutputType([string[]])]
    param([AllowEmptyString()] [string] $Text)

    $problem = ConvertFrom-JsonText -Text $Text
    if ($null -eq $problem) {
        $beginning = $Text.Trim()
        if ($beginning.Length -gt 500) {
            $beginning = $beginning.Substring(0, 500) + '...'
        }
        return @($beginning)
    }
    $lines = @()
    foreach ($name in 'title', 'detail') {
        $value = Get-JsonProperty -InputObject $problem -Name $name
        if ($value) {
            $lines += [string] $value
        }
    }
    $fields = Get-JsonProperty -InputObject $problem -Name 'errors'
    if ($fields -is [System.Management.Automation.PSCustomObject]) {
        foreach ($field in $fields.PSObject.Properties) {
            foreach ($message in @($field.Value)) {
                $lines += '  {0}: {1}' -f $field.Name, $message
            }
        }
    }
    $traceId = Get-JsonProperty -InputObject $problem -Name 'traceId'
    if ($traceId) {
        $lines += "Trace id: $traceId"
    }
    return $lines
}

# Returns a message of the lines that are not empty.
function Join-Line {
    [CmdletBinding()]
    [OutputType([string])]
    param([AllowEmptyString()] [string[]] $Line)

    ($Line | Where-Object -FilterScript { $_ }) -join [System.Environment]::NewLine
}

# Throws unless a reply tells success, with what the server says and what to do next.
function Assert-Success {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [PSCustomObject] $Reply,
        [Parameter(Mandatory = $true)] [string] $Activity
    )

    if ($Reply.StatusCode -ge 200 -and $Reply.StatusCode -lt 300) {
        return
    }
    $lines = @('{0}: the server answered {1} {2}.' -f $Activity, $Reply.StatusCode, $Reply.ReasonPhrase)
    $lines += @(Get-ProblemLine -Text $Reply.Text)
    switch ($Reply.StatusCode) {
        401 {
            $lines += 'Is the API token (-ApiToken) correct, complete and not expired, and is it a token of this server (-ApiUrl)? The token of a trusted build system follows it after a colon.'
        }
        403 {
            $lines += 'Is the token''s user a submitter of the signing policy? Is -OrganizationId the organization of the token? If the policy wants a trusted build system, is its token appended to -ApiToken, and is it linked to the project?'
        }
        404 {
            $lines += 'Is -ApiUrl the address of the REST API, and does the signing request exist?'
        }
        413 {
            $lines += 'The artifact is larger than the server accepts.'
        }
    }
    throw [System.InvalidOperationException]::new((Join-Line -Line $lines))
}
