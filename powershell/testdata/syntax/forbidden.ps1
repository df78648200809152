Get-Item -Path 'a' && Get-Item -Path 'b'
Get-Item -Path 'a' || Get-Item -Path 'b'
Get-Process | ForEach-Object -Parallel { $_ }
iex 'Get-Date'
Invoke-Expression -Command 'Get-Date'
Write-Host -Object 'hello'
Write-Verbose -Message "token $ApiToken"
[string]::Format('{0}{1}' -f 'a', 'b')
& $command
Join-Path -Path 'a' -ChildPath 'b' -AdditionalChildPath 'c'
ConvertFrom-Json -InputObject '{}' -AsHashtable
$handler.Callback = [System.Net.Http.HttpClientHandler]::DangerousAcceptAnyServerCertificateValidator
[System.IO.File]::Move('a', 'b', $true)
$handler.Frobnicate()
function New-Thing { $null }
function Frobnicate-Thing { $null }
